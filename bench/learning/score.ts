import { accuracy, macroF1 } from "../../src/training/evaluation/metrics.ts";
import { sacrebleu } from "./bleu.ts";
import type { DataSet } from "./data.ts";

/** The data set's metric of answers to its test cases, in their order. */
export function scoreOf(
  { metric, test }: Pick<DataSet, "metric" | "test">,
  given: readonly string[],
): { score: number; signature?: string } {
  if (metric === "bleu")
    return sacrebleu(
      given,
      test.map(({ answers }) => answers),
    );
  const judged = test.map(({ answers }, index) => ({
    wanted: answers[0]!,
    given: given[index]!,
    loss: null,
  }));
  return { score: metric === "accuracy" ? accuracy(judged) : macroF1(judged) };
}
