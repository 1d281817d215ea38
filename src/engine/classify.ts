import type { Segment } from "../backbone/feeds.ts";
import type { TargetScore } from "../contract/infer.ts";
import { type LabelScore, LabelSearch } from "../prompt/search.ts";
import { branches, decisions, endBranch, type LabelTrie, type TrieNode } from "../prompt/trie.ts";
import { feed } from "./feed.ts";
import type { KvBlock } from "./kv.ts";
import { logSumExp } from "./sampler.ts";
import type { Program } from "./scheduler.ts";
import type { Targets } from "./targets.ts";
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
  /** Tokens that may stand behind the row in its run. */
  room: number;
  /** Tokens of a run that has branches alone. */
  chunk: number;
}

/**
 * P(label) over the trie (contract, section 1), reading only the verbalizers' rows of the vocabulary. `all` scores every
 * node in the row's one run, as branches behind it, as far as there is room; `top` goes best first, a run a node, and
 * stops when it is certain.
 */
export function* classify(row: ClassifyRow): Program<{ scores: LabelScore[]; targets: TargetScore[] }> {
  const { trie, mode, targets } = row;
  const search = new LabelSearch(trie, mode, row.settle);
  const every = decisions(trie);
  const branched = targets.branches;
  const left = row.room - branched.reduce((sum, { length }) => sum + length, 0);
  const first =
    mode === "all"
      ? (groups(every, left)[0] ?? []).filter(({ path }) => path.length <= left)
      : search.wanted().filter(node => node === trie.root);
  const nodes = first.filter(node => node.path.length > 0);
  const candidates = (node: TrieNode) => branches(node).map(token => (token === endBranch ? row.eos : token));
  const scored = first.map(node => ({
    end: node.path.length === 0 ? -1 : branched.length + nodes.indexOf(node),
    candidates: candidates(node),
  }));
  const begun = new Set(first);
  const deeper = every.some(node => !begun.has(node));

  const { result, past } = yield* feed(row.past, row.segments, {
    branches: [...branched, ...nodes.map(node => node.path)],
    scored,
    sampled: trunk => targets.sampled(trunk),
    keep: deeper || targets.keep,
  });
  const scoredTargets = yield* targets.score(result, past);
  for (const [index, node] of first.entries()) search.tell(node, checked(result.scores[index]!));

  for (let wanted = search.wanted(); wanted.length > 0; wanted = search.wanted()) {
    const works = groups(wanted, row.chunk).map(
      (group): PrefillWork => ({
        past: [...past, result.kept!],
        segments: [],
        branches: group.map(node => node.path),
        scored: group.map((node, end) => ({ end, candidates: candidates(node) })),
        sampled: [],
        keep: false,
      }),
    );
    const { prefilled } = yield works;
    const found = prefilled!.flatMap(({ scores }) => scores);
    for (const [index, node] of wanted.entries()) search.tell(node, checked(found[index]!));
  }
  return { scores: search.scores(), targets: scoredTargets };
}

/** In their order, as many tokens of paths in each as there is room for. */
function groups(nodes: readonly TrieNode[], room: number): TrieNode[][] {
  const found: TrieNode[][] = [];
  let left = 0;
  for (const node of nodes) {
    if (found.length === 0 || node.path.length > left) {
      found.push([]);
      left = room;
    }
    found.at(-1)!.push(node);
    left -= node.path.length;
  }
  return found;
}

/** Refuses logits that are not numbers. */
function checked(logits: Float32Array): Float32Array {
  logSumExp(logits);
  return logits;
}
