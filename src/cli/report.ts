/** An evaluation's report, for people. */
import type {
  ClassifierReport,
  Comparison,
  Difference,
  EnsembleReport,
  Estimate,
  EvaluationReport,
  GeneratorReport,
  PromptReport,
} from "../contract/evaluate.ts";
import type { JobResult } from "../contract/job.ts";
import type { Ranked } from "../contract/search.ts";
import type { Active } from "../contract/task.ts";
import type { Distillation } from "../contract/train.ts";
import { forPeople } from "../training/evaluation/metrics.ts";
import { table } from "./request.ts";
import { oneLine, plain } from "./text.ts";
import { activating } from "./values.ts";

/** Labels and mistaken pairs that are shown; the JSON has all of them. */
const SHOWN = 10;
/** Characters of an input or a text. */
const WIDTH = 60;

export function drawReport(report: EvaluationReport): string {
  const { prompts, comparisons, differing, differences } = report;
  const parts = [`${report.examples} examples\n`, scores(prompts)];
  const [only] = prompts;
  if (prompts.length === 1 && only && "labels" in only) parts.push(byLabel(only), mistakes(only));
  if (comparisons.length > 0) parts.push(compared(comparisons));
  if (differences.length > 0) {
    const what = prompts.length === 1 ? "answered wrong" : "answered differently";
    const shown = differences.length < differing ? `, the first ${differences.length}` : "";
    parts.push(`${differing} examples are ${what}${shown}:\n${listed(differences)}`);
  }
  // Reports of earlier versions have none.
  const missing = (report.left_out ?? []).map(
    ({ name, reason }) => `${name} is left out: ${oneLine(reason)}\n`,
  );
  if (missing.length > 0) parts.push(missing.join(""));
  return parts.join("\n");
}

const scores = (prompts: readonly PromptReport[]): string =>
  "labels" in prompts[0]!
    ? classifiers(prompts as (PromptReport & ClassifierReport)[])
    : generators(prompts as (PromptReport & GeneratorReport)[]);

function classifiers(prompts: readonly (PromptReport & ClassifierReport)[]): string {
  const more = Object.entries(ofSome).filter(([, shown]) => prompts.some(each => shown(each) !== undefined));
  return table(
    ["prompt", "accuracy (95 %)", "macro F1", "log loss", "calibration error", ...more.map(([head]) => head)],
    prompts.map(each => [
      each.name,
      between(each.accuracy),
      each.macro_f1.toFixed(4),
      each.log_loss.toFixed(4),
      each.expected_calibration_error.toFixed(4),
      ...more.map(([, shown]) => shown(each) ?? ""),
    ]),
  );
}

/** What ensembles, thresholds and calibrations have, each in a column where there is any. */
const ofSome: Record<string, (report: ClassifierReport) => string | undefined> = {
  agreement: ({ agreement }) => agreement?.toFixed(4),
  weights: ({ weights }) => weights?.map(weight => weight.toFixed(3)).join(", "),
  unsure: ({ unsure }) =>
    unsure && `${(100 * unsure.share).toFixed(1)} %, accuracy of the others ${share(unsure.accuracy)}`,
  fitted: ({ calibration }) =>
    calibration &&
    `temperature ${calibration.temperature.toFixed(3)}: log loss ${calibration.after.log_loss.toFixed(4)}, error ${calibration.after.expected_calibration_error.toFixed(4)}`,
};

const generators = (prompts: readonly (PromptReport & GeneratorReport)[]): string =>
  table(
    ["prompt", "BLEU", "ROUGE-L (95 %)", "exact match", "perplexity"],
    prompts.map(({ name, bleu, rouge_l, exact_match, perplexity }) => [
      name,
      bleu.toFixed(2),
      between(rouge_l),
      exact_match.value.toFixed(4),
      perplexity.toFixed(3),
    ]),
  );

function byLabel({ labels }: ClassifierReport): string {
  const worst = labels.toSorted((a, b) => (a.f1 ?? 0) - (b.f1 ?? 0)).slice(0, SHOWN);
  const head = labels.length > SHOWN ? `The ${SHOWN} labels of lowest F1:\n` : "";
  return `${head}${table(
    ["label", "precision", "recall", "F1", "examples"],
    worst.map(({ label, precision, recall, f1, support }) => [
      label,
      share(precision),
      share(recall),
      share(f1),
      support,
    ]),
  )}`;
}

function mistakes({ confusion }: ClassifierReport): string {
  const wrong = confusion.filter(({ wanted, given }) => wanted !== given).slice(0, SHOWN);
  if (wrong.length === 0) return "Every example was answered right.\n";
  return `Most often mistaken:\n${table(
    ["wanted", "given", "examples"],
    wrong.map(({ wanted, given, examples }) => [wanted, given, examples]),
  )}`;
}

const compared = (comparisons: readonly Comparison[]): string =>
  table(
    ["compared", "metric", "difference (95 %)", "p"],
    comparisons.map(({ first, second, metric, difference, p_value }) => [
      `${second} minus ${first}`,
      metric,
      between(difference),
      p_value.toPrecision(2),
    ]),
  );

const listed = (differences: readonly Difference[]): string =>
  differences
    .map(({ line, input, wanted, given }) => {
      const answers = Object.entries(given).map(([name, text]) => `    ${name}: ${cut(text)}\n`);
      const asked = typeof input === "string" ? input : JSON.stringify(input);
      return `  line ${line}: ${cut(asked)}\n    wanted: ${cut(wanted.join(" | "))}\n${answers.join("")}`;
    })
    .join("");

/** What training an ensemble came to. */
export function drawEnsemble(task: string, { versions, ensemble, validation, activated }: JobResult): string {
  const { members, votes, agreement, active } = ensemble as EnsembleReport & { active: Active };
  const { active: before = null, p_value: p = null } = validation ?? {};
  const beside = before === null ? "" : `; what was active ${forPeople(before)}`;
  const chance = p === null ? "" : ` (p ${p.toPrecision(2)})`;
  return `${table(
    ["on validation", ""],
    [
      ...members.map((score, index) => [`version ${versions![index]}`, forPeople(score)]),
      ...Object.entries(votes).map(([vote, score]) => [`together, by ${vote}`, forPeople(score)]),
    ],
  )}the members agree with ${(100 * agreement).toFixed(1)} % of the answers${beside}${chance}
${
  activated
    ? `the ensemble answers for ${task} now, by ${active.vote}`
    : `what was active still answers; for the ensemble: ${activating(task, active)}`
}
`;
}

export function drawDistillation({
  agreement,
  tokens_saved,
  teacher_length,
  length,
  speed,
}: Distillation): string {
  const agrees =
    agreement === null ? "" : `it gives ${(100 * agreement).toFixed(1)} % of the teacher's answers, `;
  return `${agrees}${length} positions instead of ${teacher_length} (${tokens_saved} saved), ${speed.toFixed(2)} times as fast\n`;
}

/** What a search came to. */
export function drawSearch(
  task: string,
  { table: ranked, metric, active, versions, ...rest }: JobResult,
): string {
  const found = ranked as Ranked[];
  const { validation, activated } = rest;
  const { active: before = null, p_value: p = null } = validation ?? {};
  const [best] = found as [Ranked];
  const chance = p === null ? "" : ` (p ${p.toPrecision(2)})`;
  return `${table(
    ["", "prompt", "from", "tokens", `race: ${metric}`, "examples", "validation (95 %)"],
    found.map(({ rank, name, source, length, race, validation: score }) => [
      rank,
      cut(name),
      source,
      length,
      forPeople(race.score),
      race.examples,
      score ? scored(score) : "",
    ]),
  )}
${best.version === null ? "not kept" : `version ${versions![0]}`}: ${oneLine(best.name)}${before === null ? "" : `; what was active ${forPeople(before)}${chance}`}
${indented(best.template)}${best.verbalizers ? `verbalizers: ${JSON.stringify(best.verbalizers)}\n` : ""}${
  activated
    ? `it answers for ${task} now`
    : `what was active still answers${active ? `; for the new one: ${activating(task, active as Active)}` : ""}`
}
`;
}

const indented = (text: string): string =>
  text
    .split("\n")
    .map(line => `    ${line}\n`)
    .join("");

const between = ({ value, low, high }: Estimate): string =>
  `${value.toFixed(4)} (${low.toFixed(4)} to ${high.toFixed(4)})`;
/** The ends of a loss's interval change places. */
const scored = ({ value, low, high }: Estimate): string => {
  const [from, to] = value < 0 ? [high, low] : [low, high];
  return `${forPeople(value)} (${forPeople(from)} to ${forPeople(to)})`;
};
const share = (value: number | null): string => (value === null ? "-" : value.toFixed(3));
const cut = (text: string): string => {
  const line = plain(text.replace(/\s+/g, " "));
  return line.length > WIDTH ? `${line.slice(0, WIDTH - 1)}…` : line;
};
