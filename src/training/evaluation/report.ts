/** One evaluation, from data to report: every contender on the same examples. */
import type {
  Comparison,
  EvaluateSettings,
  EvaluationReport,
  PromptReport,
} from "../../contract/evaluate.ts";
import type { Input } from "../../contract/infer.ts";
import type { Contender, Task } from "../../contract/task.ts";
import { ForewordError } from "../../errors.ts";
import type { Bench } from "../begin.ts";
import { labelsOf } from "../check.ts";
import { checkLabels, counted } from "../data.ts";
import { distinct, parseExamples, refused } from "../examples.ts";
import type { ActivePrompts, TrainHooks } from "../job.ts";
import { counting } from "../progress.ts";
import { type Case, casesOf, misfit } from "./cases.ts";
import { fitWeights, revoted } from "./ensemble.ts";
import { label } from "./judge.ts";
import type { Judging } from "./judging.ts";
import { classifierReport, compareLabels } from "./labels.ts";
import { isRight, type Judged } from "./metrics.ts";
import { compareTexts, generatorReport, isExact } from "./texts.ts";
import { write } from "./write.ts";

/** The length of a generated text, unless the request says. */
const MAX_TOKENS = 128;
/** How many differing examples are listed, unless the request says. */
const DIFFERING = 20;
/** Characters of a text that is listed. */
const LONGEST = 2000;

export interface EvaluateJob {
  task: Pick<Task, "id" | "type" | "labels">;
  contestants: (ActivePrompts & { name: string; prompt: Contender })[];
  /** As `writeExamples` writes them. */
  examples: Uint8Array;
  settings: EvaluateSettings;
}

type Contestants = EvaluateJob["contestants"];

/** What one contender came to. */
interface Outcome {
  report: PromptReport;
  given: readonly string[];
  right: readonly boolean[];
  /** With another contender of the same task. */
  against(other: PromptReport, index: number): Comparison[];
}

export async function evaluate(
  bench: Bench,
  job: EvaluateJob,
  hooks: Pick<TrainHooks, "pause" | "log" | "progress">,
): Promise<EvaluationReport> {
  const { task, settings } = job;
  const read = parseExamples(job.examples);
  checkLabels(read, task, "examples");
  const cases = casesOf(read, task.type);
  const left_out: EvaluationReport["left_out"] = [];
  const failures: unknown[] = [];
  const fitting = job.contestants.filter(contestant => {
    const first = misfit(contestant.name, contestant.prompts, read);
    if (first) leave(contestant, refused([first], "examples"));
    return first === null;
  });
  const tell = counting(hooks, fitting.length * cases.length);
  const outcomes = await (task.type === "classification" ? labelled() : written());
  if (outcomes.length === 0) throw failures[0];
  const comparisons: Comparison[] = [];
  for (const [second, { against }] of outcomes.entries())
    for (const [first, { report }] of outcomes.slice(0, second).entries()) {
      await hooks.pause();
      comparisons.push(...against(report, first));
    }
  return {
    examples: read.examples.length,
    prompts: outcomes.map(({ report }) => report),
    comparisons,
    ...differences(outcomes, cases, settings.differing ?? DIFFERING),
    left_out,
  };

  async function labelled(): Promise<Outcome[]> {
    const every = (settings.calibrate ?? false) !== false;
    const once = new Set(distinct(read.examples));
    const isFirst = (_: unknown, index: number) => once.has(read.examples[index]!);
    const again = read.lines.filter((_, index) => !isFirst(_, index));
    if (again.length > 0 && fitting.length > 1)
      hooks.log(`examples: ${counted(again)} repeat an earlier one; in comparisons an example counts once`);
    const all: Judged[][] = [];
    return inTurn(async contestant => {
      const { name, prompt, active } = contestant;
      const judged = await label(judging(contestant), read.examples, { every });
      const weights = active.vote === "weighted" && !active.weights ? fitWeights(judged) : null;
      const mine = weights ? revoted(judged, "weighted", active) : judged;
      // Without every label's score: examples may be many.
      const few = mine.map(({ wanted, given, loss }) => ({ wanted, given, loss }));
      const compared = few.filter(isFirst);
      all.push(compared);
      const report = {
        name,
        prompt,
        ...classifierReport(mine, active, labelsOf(task), settings),
        ...(weights && { weights }),
      };
      hooks.log(`${name}: accuracy ${report.accuracy.value.toFixed(4)} on ${cases.length} examples`);
      return {
        report,
        given: few.map(({ given }) => given),
        right: few.map(isRight),
        against: (other, index) => compareLabels([other, report], [all[index]!, compared], settings.seed),
      };
    });
  }

  async function written(): Promise<Outcome[]> {
    const all: Awaited<ReturnType<typeof write>>[] = [];
    return inTurn(async contestant => {
      const { name, prompt } = contestant;
      const { max_tokens: maxTokens = MAX_TOKENS, json_schema: jsonSchema } = settings;
      const limits = { maxTokens, ...(jsonSchema && { jsonSchema }) };
      const mine = await write(judging(contestant), cases, limits);
      all.push(mine);
      const report = { name, prompt, ...generatorReport(mine, cases) };
      hooks.log(`${name}: BLEU ${report.bleu.toFixed(2)} on ${cases.length} inputs`);
      return {
        report,
        given: mine.map(({ text }) => text),
        right: mine.map((each, i) => isExact(each, cases[i]!)),
        against: (other, index) => compareTexts([other, report], [all[index]!, mine], cases, settings.seed),
      };
    });
  }

  function judging({ name, prompts, active }: Contestants[number]): Judging {
    const nameOf = (index: number) => `examples: line ${cases[index]!.line}, prompt ${name}`;
    return { ...bench, task, prompts, active, tell, nameOf };
  }

  /** One contender after another: side by side their prompts would share the cache. */
  async function inTurn(work: (contestant: Contestants[number]) => Promise<Outcome>): Promise<Outcome[]> {
    const done: Outcome[] = [];
    for (const contestant of fitting) {
      try {
        done.push(await work(contestant));
      } catch (error) {
        leave(contestant, error);
      }
    }
    return done;
  }

  /** What one contender can't answer, others may. */
  function leave({ name, prompt }: Contestants[number], error: unknown): void {
    // The engine's own failures are no prompt's.
    if (!(error instanceof ForewordError) || error.status >= 500) throw error;
    failures.push(error);
    left_out.push({ name, prompt, reason: error.message });
    hooks.log(`${name} is left out: ${error.message}`);
  }
}

/** Cases that contenders answer differently; of one contender those that it got wrong. */
function differences(
  outcomes: readonly Outcome[],
  cases: readonly Case[],
  most: number,
): Pick<EvaluationReport, "differing" | "differences"> {
  const differing = cases.flatMap((each, index) => {
    const given = new Set(outcomes.map(outcome => outcome.given[index]!));
    return given.size > 1 || (outcomes.length === 1 && !outcomes[0]!.right[index]) ? [{ each, index }] : [];
  });
  return {
    differing: differing.length,
    differences: differing.slice(0, most).map(({ each: { line, input, wanted }, index }) => ({
      line,
      input: shortened(input),
      wanted: wanted.map(cut),
      given: Object.fromEntries(outcomes.map(({ report, given }) => [report.name, cut(given[index]!)])),
    })),
  };
}

/** A report is kept with its job: the line says where the whole text is. */
const cut = (text: string): string => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

const shortened = (input: Input): Input =>
  typeof input === "string"
    ? cut(input)
    : Object.fromEntries(
        Object.entries(input).map(([name, value]) => [
          name,
          typeof value === "string"
            ? cut(value)
            : value.map(message => ({ ...message, content: cut(message.content) })),
        ]),
      );
