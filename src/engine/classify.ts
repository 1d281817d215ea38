import type { Segment } from "../backbone/feeds.ts";
import type { TargetScore } from "../contract/infer.ts";
import { type LabelScore, LabelSearch } from "../prompt/search.ts";
import { branches, decisions, endBranch, type LabelTrie, type TrieNode } from "../prompt/trie.ts";
import { feed } from "./feed.ts";
import type { KvBlock } from "./kv.ts";
import { logSumExp } from "./sampler.ts";
import type { Program } from "./scheduler.ts";
import { scoreTargets, type Targets, targetBranches, targetTokens } from "./targets.ts";
import type { PrefillWork } from "./work.ts";

export interface ClassifyRow {
  past: readonly KvBlock[];
  segments: readonly Segment[];
  trie: LabelTrie;
  /** The token whose logit stands for an end branch. */
  eos: number;
  mode: "top" | "all";
  settle: readonly string[];
  targets: Targets;
}

/**
 * P(label) over the trie (contract, section 1), reading only the verbalizers' rows of the vocabulary. `all` scores every
 * node in the row's one run, as branches behind it; `top` goes best first, a run a node, and stops when it is certain.
 */
export function* classify(row: ClassifyRow): Program<{ scores: LabelScore[]; targets: TargetScore[] }> {
  const { trie, mode, targets } = row;
  const search = new LabelSearch(trie, mode, row.settle);
  const first = mode === "all" ? decisions(trie) : search.wanted().filter(node => node === trie.root);
  const nodes = first.filter(node => node.path.length > 0);
  const branched = targetBranches(targets);
  const candidates = (node: TrieNode) => branches(node).map(token => (token === endBranch ? row.eos : token));
  const scored = first.map(node => ({
    end: node.path.length === 0 ? -1 : branched.length + nodes.indexOf(node),
    candidates: candidates(node),
  }));
  const deeper = mode === "top" && decisions(trie).some(node => node.path.length > 0);

  const { result, past } = yield* feed(row.past, row.segments, {
    branches: [...branched, ...nodes.map(node => node.path)],
    scored,
    sampled: trunk => targetTokens(targets, trunk),
    keep: deeper,
  });
  const scoredTargets = scoreTargets(targets, result.logits);
  for (const [index, node] of first.entries()) search.tell(node, checked(result.scores[index]!));

  for (let wanted = search.wanted(); wanted.length > 0; wanted = search.wanted()) {
    const work: PrefillWork = {
      past: [...past, result.kept!],
      segments: [],
      branches: wanted.map(node => node.path),
      scored: wanted.map((node, end) => ({ end, candidates: candidates(node) })),
      sampled: [],
      keep: false,
    };
    const { prefilled } = yield [work];
    for (const [index, node] of wanted.entries()) search.tell(node, checked(prefilled![0]!.scores[index]!));
  }
  return { scores: search.scores(), targets: scoredTargets };
}

/** Refuses logits that are not numbers. */
function checked(logits: Float32Array): Float32Array {
  logSumExp(logits);
  return logits;
}
