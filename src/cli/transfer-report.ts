/** What prompts are to one another, and what their positions do, for people. */
import type { JobResult } from "../contract/job.ts";
import type { Init } from "../contract/train.ts";
import type { AttentionReport, DonorsReport, NearestReport, SimilarityReport } from "../contract/transfer.ts";
import { table } from "./request.ts";
import { quoted } from "./values.ts";

export type Measure = "average_tokens" | "token_pairs";

/** Positions of a prefix that are listed: those that get most. */
const SHOWN = 16;
/** Columns of a picture of layers, and what a share looks like there. */
const COLUMNS = 100;
const SHADES = " ░▒▓█";

export function drawSimilarity({ groups, left_out }: SimilarityReport, by: Measure): string {
  const parts = groups
    .filter(({ prompts }) => prompts.length > 0)
    .map(({ kind, prompts, ...cosines }) => {
      const rows = prompts.map(({ task, version }, row) => [
        row + 1,
        `${task}/${version}`,
        ...cosines[by][row]!.map(cosine => cosine.toFixed(3)),
      ]);
      return `${kind}\n${table(["", "prompt", ...prompts.map((_, column) => String(column + 1))], rows)}`;
    });
  if (left_out.length > 0)
    parts.push(
      `left out, of other backbones: ${left_out.map(({ task, version }) => `${task}/${version}`).join(", ")}\n`,
    );
  return parts.length > 0 ? parts.join("\n") : "no trained prompt is there to compare\n";
}

/** As `--init` takes it. */
export const initText = (init: Init): string => {
  if (typeof init === "string") return init;
  return "prompt" in init ? `prompt:${init.prompt.task}/${init.prompt.version}` : `text:${init.text}`;
};

export function drawDonors(task: string, result: JobResult): string {
  const { table: ranked, left_out, best, method, template } = result as unknown as DonorsReport;
  const rows = ranked.map(({ rank, init, kind, loss, accuracy, examples }) => [
    rank,
    initText(init),
    kind ?? "",
    loss.toFixed(4),
    accuracy === null ? "" : accuracy.toFixed(4),
    examples,
  ]);
  const missing = left_out.map(
    ({ task: from, version, reason }) => `${from}/${version} is left out: ${reason}\n`,
  );
  // What was asked for: the best start of another method, or before another template, may be another one.
  const asked = [
    `--init ${initText(best.init)}`,
    ...(method === "prefix" ? [] : [`--method ${method}`]),
    ...(template === undefined ? [] : [`--template ${quoted(template)}`]),
  ];
  const advice = `train from the best: foreword train ${task} <data> ${asked.join(" ")}\n`;
  return `${table(["", "start", "kind", "loss before training", "accuracy", "examples"], rows)}${missing.join("")}${advice}`;
}

export const drawNearest = ({ positions, word_length }: NearestReport): string =>
  `${table(
    ["position", "length", "nearest words (cosine)"],
    positions.map(({ position, length, tokens }) => [
      position,
      length.toFixed(2),
      tokens.map(({ text, similarity }) => `${JSON.stringify(text)} ${similarity.toFixed(3)}`).join("  "),
    ]),
  )}words have a length of ${word_length.toFixed(2)}\n`;

export function drawAttention({ positions, layers, inputs, tokens }: AttentionReport): string {
  const most = positions.toSorted((a, b) => b.answer - a.answer).slice(0, SHOWN);
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const of = (which: "attention" | "answer") => positions.reduce((sum, each) => sum + each[which], 0);
  const each = Math.ceil(positions.length / COLUMNS);
  const head =
    positions.length > SHOWN
      ? `The ${SHOWN} of ${positions.length} positions that the answer looks at most:\n`
      : "";
  return `${head}${table(
    ["position", "", "by all tokens", "by the last one"],
    most.map(({ position, kind, text, attention, answer }) => [
      position,
      text === undefined ? kind : JSON.stringify(text),
      percent(attention),
      percent(answer),
    ]),
  )}All positions together get ${percent(of("attention"))} of what ${tokens} tokens of ${inputs} inputs look at, and ${percent(of("answer"))} of the last token's; the inputs themselves get the rest.

By the last token, a line a layer, a column ${each === 1 ? "a position" : `${each} positions`} (${SHADES[1]} 1 %, ${SHADES[2]} 3 %, ${SHADES[3]} 10 %, ${SHADES[4]} 30 % and more):
${layers.map(({ layer, answer }) => `${String(layer).padStart(3)} ${together(answer, each).map(shade).join("")}`).join("\n")}
`;
}

/** Sums of `each` shares that stand side by side. */
const together = (shares: readonly number[], each: number): number[] =>
  Array.from({ length: Math.ceil(shares.length / each) }, (_, at) =>
    shares.slice(at * each, (at + 1) * each).reduce((sum, share) => sum + share, 0),
  );

const shade = (share: number): string =>
  SHADES[[0.01, 0.03, 0.1, 0.3].filter(least => share >= least).length]!;
