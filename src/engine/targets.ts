import type { TargetScore } from "../contract/infer.ts";
import { logSumExp } from "./sampler.ts";

/** Texts to score: each is a branch behind the row, its last token left out, since nothing follows it. */
export interface Targets {
  texts: readonly string[];
  ids: readonly (readonly number[])[];
}

export const targetBranches = ({ ids }: Targets): number[][] => ids.map(tokens => tokens.slice(0, -1));

/** The tokens after which logits are wanted: the trunk's last, then every token of every branch. */
export function targetTokens(targets: Targets, trunk: number): number[] {
  if (targets.texts.length === 0) return [];
  const total = targetBranches(targets).reduce((sum, branch) => sum + branch.length, 0);
  return [trunk - 1, ...Array.from({ length: total }, (_, token) => trunk + token)];
}

/** log P(text | what came before), from the logits after those tokens. */
export function scoreTargets(targets: Targets, logits: readonly Float32Array[]): TargetScore[] {
  let next = 1;
  return targets.texts.map((text, index) => {
    const ids = targets.ids[index]!;
    let logprob = 0;
    for (const [at, token] of ids.entries()) {
      const row = at === 0 ? logits[0]! : logits[next++]!;
      logprob += row[token]! - logSumExp(row);
    }
    return { text, logprob, tokens: ids.length };
  });
}
