/** Contenders that answer with texts: what each reports, and how two compare. */
import type { Comparison, GeneratorReport, PromptReport } from "../../contract/evaluate.ts";
import { bleu, bleuCounts, totalCounts } from "./bleu.ts";
import { meanOf } from "./metrics.ts";
import { rougeL } from "./rouge.ts";
import { meanBootstrap, pairedBootstrap, shareOf } from "./significance.ts";
import type { TextCase, Written } from "./write.ts";

/** BLEU is a corpus' score, counted anew for each resample: so many give a p-value to a thousandth. */
const RESAMPLES = 1000;

export const isExact = ({ text }: Written, { wanted }: TextCase): boolean =>
  wanted.some(each => each.trim() === text);

/** -log P of every reference's tokens and EOS, summed, and how many there are. */
const referenceLoss = (written: readonly Written[]) => {
  const targets = written.flatMap(each => each.targets);
  const sum = (of: (target: (typeof targets)[number]) => number) =>
    targets.reduce((total, target) => total + of(target), 0);
  return { nats: -sum(({ logprob }) => logprob), tokens: sum(({ tokens }) => tokens) };
};

export function generatorReport(written: readonly Written[], cases: readonly TextCase[]): GeneratorReport {
  const rouge = written.map(({ text }, i) => rougeL(text, cases[i]!.wanted));
  const { low, high } = meanBootstrap(rouge);
  const { nats, tokens } = referenceLoss(written);
  return {
    exact_match: shareOf(written.filter((each, i) => isExact(each, cases[i]!)).length, written.length),
    rouge_l: { value: meanOf(rouge), low, high },
    bleu: bleu(written.map(({ text }, i) => bleuCounts(text, cases[i]!.wanted))),
    perplexity: Math.exp(nats / tokens),
    references: cases.reduce((count, { wanted }) => count + wanted.length, 0),
  };
}

/** The second one's BLEU, and its references' loss a token, less the first one's, on the same cases. */
export function compareTexts(
  [a, b]: readonly [PromptReport, PromptReport],
  [first, second]: readonly [readonly Written[], readonly Written[]],
  cases: readonly TextCase[],
  seed?: number,
): Comparison[] {
  const seeded = seed === undefined ? {} : { seed };
  const counted = [first, second].map(written =>
    written.map(({ text }, i) => bleuCounts(text, cases[i]!.wanted)),
  );
  const losses = [first, second].map(written => written.map(each => referenceLoss([each])));
  const scoreOf = (which: 0 | 1, drawn: ArrayLike<number>) => bleu([totalCounts(counted[which]!, drawn)]);
  const lossOf = (which: 0 | 1, drawn: ArrayLike<number>) => {
    let [nats, tokens] = [0, 0];
    for (let i = 0; i < drawn.length; i++) {
      nats += losses[which]![drawn[i]!]!.nats;
      tokens += losses[which]![drawn[i]!]!.tokens;
    }
    return nats / tokens;
  };
  const differences = {
    bleu: (drawn: ArrayLike<number>) => scoreOf(1, drawn) - scoreOf(0, drawn),
    log_loss: (drawn: ArrayLike<number>) => lossOf(1, drawn) - lossOf(0, drawn),
  };
  const everything = cases.map((_, index) => index);
  return (["bleu", "log_loss"] as const).map(metric => {
    const difference = differences[metric];
    const { low, high, p } = pairedBootstrap(cases.length, difference, { ...seeded, resamples: RESAMPLES });
    return {
      first: a.name,
      second: b.name,
      metric,
      difference: { value: difference(everything), low, high },
      p_value: p,
      test: "bootstrap",
    };
  });
}
