/**
 * P(label) from a trie's logits: of all labels, or best first until the best label is certain. It asks for the logits
 * of nodes and is told them, so that the caller decides how to batch; nothing here runs a model.
 */
import { branches, decisions, endBranch, type LabelTrie, type TrieNode } from "./trie.ts";

export interface LabelScore {
  label: string;
  /** Natural log of P(label). */
  logprob: number;
}

interface OpenNode {
  node: TrieNode;
  logprob: number;
}

export class LabelSearch {
  readonly #trie: LabelTrie;
  readonly #mode: "top" | "all";
  /** Reached, with a decision to take. */
  #open: OpenNode[] = [];
  /** Log P of each label's verbalizers that the search came to, keyed by their tokens so that sums have one order. */
  readonly #settled: Map<TrieNode, number>[];

  /** Labels whose probability is wanted, wherever they rank. */
  readonly #settle: ReadonlySet<number>;
  /** Log shares of the branches, as told. */
  readonly #told = new Map<TrieNode, Float64Array>();

  constructor(trie: LabelTrie, mode: "top" | "all", settle: readonly string[] = []) {
    this.#trie = trie;
    this.#mode = mode;
    this.#settle = new Set(settle.map(label => trie.labels.indexOf(label)));
    this.#settled = trie.labels.map(() => new Map());
    this.#enter(trie.root, 0);
  }

  /**
   * The nodes whose logits are needed next: for `all` every decision of the trie at once; for `top` the likeliest, or
   * none when the answer is certain, and those on the way to labels that are to be settled. Empty when done. A search
   * that goes on asks for more at a time, half as many as it knows: where nothing is likely, rounds cost more than nodes.
   */
  wanted(): TrieNode[] {
    if (this.#mode === "all")
      return this.#open.length === 0 ? [] : decisions(this.#trie).filter(node => !this.#told.has(node));
    const onTheWay = this.#open.filter(({ node }) => node.labels.some(label => this.#settle.has(label)));
    const count = Math.max(1, Math.floor(this.#told.size / 2));
    const best = this.#open.length === 0 || this.#certain() ? [] : likeliest(this.#open, count);
    return [...new Set([...best, ...onTheWay].map(({ node }) => node))];
  }

  /** Logits of `branches(node)`. */
  tell(node: TrieNode, logits: ArrayLike<number>): void {
    const expected = branches(node).length;
    if (logits.length !== expected) throw new RangeError(`${logits.length} logits for ${expected} branches`);
    this.#told.set(node, logSoftmax(logits));
    // A node may be told before its parent; it is walked once the parent leads to it.
    for (let ready = this.#takeReady(); ready; ready = this.#takeReady()) this.#walk(ready);
  }

  /** Best first, ties in the labels' order: every label for `all`, for `top` those with all their verbalizers settled. */
  scores(): LabelScore[] {
    const pending = new Set(this.#open.flatMap(({ node }) => node.labels));
    return this.#trie.labels
      .map((label, index) => ({ label, index, logprob: this.#lower(index) }))
      .filter(({ index }) => !pending.has(index))
      .sort((a, b) => b.logprob - a.logprob || a.index - b.index)
      .map(({ label, logprob }) => ({ label, logprob }));
  }

  #takeReady(): OpenNode | undefined {
    const at = this.#open.findIndex(({ node }) => this.#told.has(node));
    return at < 0 ? undefined : this.#open.splice(at, 1)[0];
  }

  #walk({ node, logprob }: OpenNode): void {
    const shares = this.#told.get(node)!;
    branches(node).forEach((token, branch) => {
      const reached = logprob + shares[branch]!;
      if (token === endBranch) this.#settled[node.end!]!.set(node, reached);
      else this.#enter(node.children.get(token)!, reached);
    });
  }

  /** A node with one branch decides nothing: P = 1. */
  #enter(start: TrieNode, logprob: number): void {
    let node = start;
    while (node.end === null && node.children.size === 1) node = node.children.values().next().value!;
    if (node.children.size === 0) {
      if (node.end !== null) this.#settled[node.end]!.set(node, logprob);
    } else this.#open.push({ node, logprob });
  }

  #lower(label: number): number {
    const found = [...this.#settled[label]!].sort(([a], [b]) => comparePaths(a.path, b.path));
    return logSum(found.map(([, logprob]) => logprob));
  }

  /** Whether one label has all it can get, and no other can come to more with all the mass that is still open to it. */
  #certain(): boolean {
    const [best] = this.scores();
    if (!best) return false;
    const winner = this.#trie.labels.indexOf(best.label);
    const open = this.#trie.labels.map((): number[] => []);
    for (const { node, logprob } of this.#open) for (const label of node.labels) open[label]!.push(logprob);
    return open.every((masses, label) => {
      if (label === winner || masses.length === 0) return true;
      // A hair above, so that rounding cannot hide a label that the full walk would put first.
      return logSum([this.#lower(label), ...masses]) + 1e-9 < best.logprob;
    });
  }
}

const likeliest = (open: readonly OpenNode[], count: number): OpenNode[] =>
  open.toSorted((a, b) => b.logprob - a.logprob).slice(0, count);

function comparePaths(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((token, index) => token !== b[index]);
  return at < 0 ? a.length - b.length : a[at]! - (b[at] ?? -1);
}

function logSum(logs: readonly number[]): number {
  const peak = Math.max(...logs);
  if (peak === Number.NEGATIVE_INFINITY) return peak;
  return peak + Math.log(logs.reduce((sum, each) => sum + Math.exp(each - peak), 0));
}

function logSoftmax(logits: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(logits);
  const total = logSum([...values]);
  return values.map(value => value - total);
}
