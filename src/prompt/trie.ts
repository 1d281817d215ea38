/**
 * The token trie of a task's verbalizers. P(label) is the product, over the nodes on its way, of the softmax restricted
 * to that node's branches; labels of one token each are the case of depth one.
 *
 * Where a verbalizer is another's beginning ("not", "not spam"), stopping competes with going on: the node gets an end
 * branch, and its logit is that of the EOS token, since an answer ends with EOS (contract, section 1).
 */
import { ForewordError } from "../errors.ts";

/** Stands for the end branch where a token id is expected; its row of the vocabulary is EOS. */
export const endBranch = -1;

export interface TrieNode {
  /** The tokens from the root to here. */
  readonly path: readonly number[];
  children: Map<number, TrieNode>;
  /** The label that a verbalizer ending here stands for. */
  end: number | null;
  /** Every label that can still be reached, ascending. */
  labels: number[];
}

export interface LabelTrie {
  root: TrieNode;
  labels: readonly string[];
}

/** A verbalizer's tokens, and the branch (an index into `branches(node)`) that it takes at each node of its way. */
export interface GoldStep {
  node: TrieNode;
  branch: number;
}

/** A label with the token ids of each of its verbalizers. */
export interface LabelSequences {
  label: string;
  sequences: number[][];
}

/** Throws `duplicate_verbalizer` where two verbalizers have the same tokens, `validation` where one has none. */
export function buildTrie(labels: readonly LabelSequences[]): LabelTrie {
  const root = newNode([], 0);
  const names = labels.map(({ label }) => label);
  labels.forEach(({ label, sequences }, index) => {
    for (const sequence of sequences) insert(root, sequence, index, label, names);
  });
  return { root, labels: names };
}

/** Next tokens in the order of insertion, then `endBranch` where stopping competes with them; none at a leaf. */
export function branches(node: TrieNode): number[] {
  const tokens = [...node.children.keys()];
  return node.end !== null && tokens.length > 0 ? [...tokens, endBranch] : tokens;
}

/** Nodes where something is to be decided, parents first: those with two branches or more. */
export function decisions(trie: LabelTrie): TrieNode[] {
  const found: TrieNode[] = [];
  const open = [trie.root];
  for (let node = open.pop(); node; node = open.pop()) {
    if (branches(node).length > 1) found.push(node);
    open.push(...[...node.children.values()].reverse());
  }
  return found;
}

/** The decisions on the way of a verbalizer, its end branch included: what training maximises. */
export function goldPath(trie: LabelTrie, sequence: readonly number[]): GoldStep[] {
  const steps: GoldStep[] = [];
  let node = trie.root;
  for (const token of [...sequence, endBranch]) {
    const ways = branches(node);
    const branch = ways.indexOf(token);
    if (token !== endBranch && branch < 0)
      throw new RangeError(`no verbalizer has the tokens ${sequence.join(", ")}`);
    if (ways.length > 1) steps.push({ node, branch });
    if (token !== endBranch) node = node.children.get(token)!;
  }
  return steps;
}

function insert(
  root: TrieNode,
  sequence: readonly number[],
  index: number,
  label: string,
  names: readonly string[],
): void {
  if (sequence.length === 0) {
    throw new ForewordError(
      "validation",
      `A verbalizer of label ${JSON.stringify(label)} has no tokens. Give the label a text that has some.`,
      { label },
    );
  }
  let node = root;
  reach(node, index);
  sequence.forEach((token, depth) => {
    let child = node.children.get(token);
    if (!child) {
      child = newNode(sequence, depth + 1);
      node.children.set(token, child);
    }
    node = child;
    reach(node, index);
  });
  if (node.end !== null) {
    const other = names[node.end]!;
    throw new ForewordError(
      "duplicate_verbalizer",
      `${other === label ? `Two verbalizers of label ${JSON.stringify(label)}` : `Labels ${JSON.stringify(other)} and ${JSON.stringify(label)}`} ` +
        "have the same tokens, so they cannot be told apart. Spell one of them differently.",
      { labels: [other, label] },
    );
  }
  node.end = index;
}

/** Long verbalizers have many nodes, and few of those are decisions, whose paths alone are read: none keeps its own. */
function newNode(sequence: readonly number[], depth: number): TrieNode {
  return {
    get path() {
      return sequence.slice(0, depth);
    },
    children: new Map(),
    end: null,
    labels: [],
  };
}

/** Labels are inserted in order, so the last one tells whether this one is there. */
function reach(node: TrieNode, index: number): void {
  if (node.labels.at(-1) !== index) node.labels.push(index);
}
