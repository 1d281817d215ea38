/** Contenders that answer with labels: what each reports, and how two compare. */
import type {
  ClassifierReport,
  Comparison,
  EvaluateSettings,
  LabelReport,
  PromptReport,
} from "../../contract/evaluate.ts";
import type { Active } from "../../contract/task.ts";
import { calibrate, isUnsure, type Scores } from "../../prompt/votes.ts";
import { type Confidence, calibrationError, temperatureOf } from "./calibration.ts";
import { differences } from "./compare.ts";
import { agreed, fitWeights } from "./ensemble.ts";
import { crossFitted, type Labelled } from "./judge.ts";
import { accuracy, countsOf, isRight, type Judged, macroF1, meanOf } from "./metrics.ts";
import { mcnemar, meanBootstrap, shareOf } from "./significance.ts";

/** Pairs that a confusion lists: with a thousand labels there could be a million. */
const PAIRS = 1000;

export function classifierReport(
  judged: readonly Labelled[],
  active: Active,
  labels: readonly string[],
  { calibrate: fit = false }: EvaluateSettings,
): ClassifierReport {
  const { unsure_below, agreement_below } = active;
  const doubts = {
    ...(unsure_below !== undefined && { unsure_below }),
    ...(agreement_below !== undefined && { agreement_below }),
  };
  const sure = judged.filter(
    ({ scores, members }) =>
      !isUnsure(
        scores,
        members.map(member => calibrate(member, active)),
        doubts,
      ),
  );
  return {
    accuracy: shareOf(judged.filter(isRight).length, judged.length),
    macro_f1: macroF1(judged),
    ...trust(judged),
    ...(Object.keys(doubts).length > 0 && {
      unsure: {
        ...doubts,
        share: 1 - sure.length / judged.length,
        accuracy: sure.length === 0 ? null : accuracy(sure),
      },
    }),
    ...(active.ensemble && { agreement: meanOf(judged.map(each => agreed(each, active))) }),
    ...(fit !== false && { calibration: calibration(judged, active) }),
    labels: labelReports(judged, labels),
    confusion: confusionOf(judged),
  };
}

/** The second one's accuracy less the first one's, on the same examples. */
export function compareLabels(
  [a, b]: readonly [PromptReport, PromptReport],
  [first, second]: readonly [readonly Judged[], readonly Judged[]],
  seed?: number,
): Comparison[] {
  const gains = second.map((each, i) => Number(isRight(each)) - Number(isRight(first[i]!)));
  const { low, high } = meanBootstrap(gains, { ...(seed !== undefined && { seed }) });
  return [
    {
      first: a.name,
      second: b.name,
      metric: "accuracy",
      difference: { value: meanOf(gains), low, high },
      p_value: mcnemar(first, second),
      test: "mcnemar",
    },
  ];
}

/** Every label that was wanted or given, in the labels' order. A share of nothing is null. */
export function labelReports(judged: readonly Judged[], labels: readonly string[]): LabelReport[] {
  return labels.flatMap(label => {
    const { hits, given, support } = countsOf(judged, label);
    if (given + support === 0) return [];
    return {
      label,
      precision: given === 0 ? null : hits / given,
      recall: support === 0 ? null : hits / support,
      f1: (2 * hits) / (given + support),
      support,
    };
  });
}

/** Examples by the label that was wanted and the one that was given; the pairs that occur, most often first. */
export function confusionOf(judged: readonly Judged[]): ClassifierReport["confusion"] {
  const cells = new Map<string, ClassifierReport["confusion"][number]>();
  for (const { wanted, given } of judged) {
    const key = JSON.stringify([wanted, given]);
    const cell = cells.get(key) ?? { wanted, given, examples: 0 };
    cell.examples++;
    cells.set(key, cell);
  }
  return [...cells.values()].sort((a, b) => b.examples - a.examples).slice(0, PAIRS);
}

/** Whether probabilities can be trusted. */
const trust = (judged: readonly (Judged & { scores: Scores })[]) => ({
  log_loss: meanOf(judged.map(({ loss }) => loss!)),
  expected_calibration_error: calibrationError(judged.map(confidenceOf)),
});

const confidenceOf = (each: Judged & { scores: Scores }): Confidence => ({
  probability: each.scores.get(each.given)!,
  right: isRight(each),
});

/**
 * The temperature that all examples fit, and what it does, measured honestly: each half of the examples with the
 * temperature, and the weights of a vote that has none, of the other half.
 */
function calibration(judged: readonly Labelled[], active: Active) {
  const fitted = (examples: readonly Labelled[]) => {
    const weighted = active.vote === "weighted" && !active.weights;
    const voting = weighted ? { ...active, weights: fitWeights(examples, active) } : active;
    return { ...voting, temperature: temperatureOf(examples, voting) };
  };
  const crossed = crossFitted(judged, fitted, each => each);
  const gaps = differences(
    judged.map(({ input }, index) => input ?? index),
    crossed,
    judged,
  );
  return {
    temperature: fitted(judged).temperature,
    after: trust(crossed),
    p_value: meanOf(gaps) < 0 ? meanBootstrap(gaps).p : 1,
  };
}
