import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ForewordError } from "../../../src/errors.ts";
import { type LabelScore, LabelSearch } from "../../../src/prompt/search.ts";
import {
  branches,
  buildTrie,
  decisions,
  endBranch,
  goldPath,
  type LabelTrie,
  type TrieNode,
} from "../../../src/prompt/trie.ts";

type Sequences = number[][][];
const vocabulary = 7;
const eos = 6;

const build = (sequences: Sequences) =>
  buildTrie(sequences.map((list, index) => ({ label: `label ${index}`, sequences: list })));

/** Logits of `branches(node)`, in that order. */
type ScoreNode = (node: TrieNode) => ArrayLike<number>;

/** P of every label, in the labels' order; sums to 1. */
function probabilities(trie: LabelTrie, score: ScoreNode): LabelScore[] {
  const search = new LabelSearch(trie, "all");
  for (const node of search.wanted()) search.tell(node, score(node));
  const found = new Map(search.scores().map(entry => [entry.label, entry]));
  return trie.labels.map(label => found.get(label)!);
}

/** The best label and whatever else was settled on the way, best first. */
function searchTop(trie: LabelTrie, score: ScoreNode, settle: readonly string[] = []): LabelScore[] {
  const search = new LabelSearch(trie, "top", settle);
  for (let nodes = search.wanted(); nodes.length > 0; nodes = search.wanted())
    for (const node of nodes) search.tell(node, score(node));
  return search.scores();
}

/** Token sequences, all different, dealt out to labels; few tokens, so that many share beginnings. */
const someLabels = fc
  .uniqueArray(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 4 }), {
    minLength: 2,
    maxLength: 14,
    selector: sequence => sequence.join(),
  })
  .chain(all =>
    fc.integer({ min: 1, max: all.length }).map(count =>
      all.reduce<Sequences>((labels, sequence, at) => {
        labels[at % count] = [...(labels[at % count] ?? []), sequence];
        return labels;
      }, []),
    ),
  );

/** A stand-in language model: logits of the vocabulary after any path, fixed by a seed. */
const model = (seed: number) => (path: readonly number[]) => {
  let state = path.reduce(
    (hash, token) => Math.imul(hash ^ (token + 1), 16777619) >>> 0,
    (seed ^ 2166136261) >>> 0,
  );
  return Array.from({ length: vocabulary }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 12 - 6;
  });
};
const scorer =
  (seed: number, visits: TrieNode[] = []) =>
  (node: TrieNode) => {
    visits.push(node);
    const logits = model(seed)(node.path);
    return branches(node).map(token => logits[token === endBranch ? eos : token]!);
  };

/** The definition, without a trie: at each position, softmax over what any verbalizer with this beginning does next. */
const bruteForce = (sequences: Sequences, seed: number): number[] =>
  sequences.map(list =>
    list.reduce((sum, sequence) => {
      const ended = [...sequence, eos];
      let p = 1;
      ended.forEach((token, at) => {
        const next = new Set(
          sequences
            .flat()
            .filter(other => other.length >= at && other.slice(0, at).join() === sequence.slice(0, at).join())
            .map(other => other[at] ?? eos),
        );
        const logits = model(seed)(sequence.slice(0, at));
        p *= Math.exp(logits[token]!) / [...next].reduce((total, each) => total + Math.exp(logits[each]!), 0);
      });
      return sum + p;
    }, 0),
  );

describe("buildTrie", () => {
  it("shares beginnings and gives a beginning an end branch", () => {
    const trie = build([[[1]], [[1, 2], [3]]]);
    const inner = trie.root.children.get(1)!;
    expect(branches(trie.root)).toEqual([1, 3]);
    expect(branches(inner)).toEqual([2, endBranch]);
    expect(inner).toMatchObject({ path: [1], end: 0, labels: [0, 1] });
    expect(branches(inner.children.get(2)!)).toEqual([]);
    expect(decisions(trie)).toEqual([trie.root, inner]);
  });

  it("is one softmax where labels have one token each", () => {
    const trie = build([[[4]], [[2]], [[5]]]);
    expect(decisions(trie)).toEqual([trie.root]);
    const found = probabilities(trie, () => [1, 2, 3]).map(({ logprob }) => Math.exp(logprob));
    const e = [1, 2, 3].map(Math.exp);
    found.forEach((p, index) => {
      expect(p).toBeCloseTo(e[index]! / (e[0]! + e[1]! + e[2]!), 12);
    });
  });

  it.each([
    [[[[1, 2]], [[3], [1, 2]]], /Labels "label 0" and "label 1"/],
    [[[[1]], [[3], [3]]], /Two verbalizers of label "label 1"/],
  ])("refuses equal tokens", (sequences, detail) => {
    expect(() => build(sequences)).toThrow(
      expect.objectContaining({ code: "duplicate_verbalizer", message: expect.stringMatching(detail) }),
    );
  });

  it("refuses a verbalizer without tokens", () => {
    expect(() => build([[[1]], [[]]])).toThrow(ForewordError);
  });
});

describe("probabilities", () => {
  it("sum to 1 and equal the definition", () => {
    fc.assert(
      fc.property(someLabels, fc.integer(), (sequences, seed) => {
        const found = probabilities(build(sequences), scorer(seed)).map(({ logprob }) => Math.exp(logprob));
        expect(found.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 10);
        bruteForce(sequences, seed).forEach((p, index) => {
          expect(found[index]).toBeCloseTo(p, 10);
        });
      }),
    );
  });

  it("are the products along the gold paths", () => {
    fc.assert(
      fc.property(someLabels, fc.integer(), (sequences, seed) => {
        const trie = build(sequences);
        const score = scorer(seed);
        const found = sequences.map(list =>
          list.reduce((sum, sequence) => {
            const steps = goldPath(trie, sequence).map(({ node, branch }) => {
              const weights = score(node).map(Math.exp);
              return weights[branch]! / weights.reduce((total, each) => total + each, 0);
            });
            return sum + steps.reduce((p, each) => p * each, 1);
          }, 0),
        );
        bruteForce(sequences, seed).forEach((p, index) => {
          expect(found[index]).toBeCloseTo(p, 10);
        });
      }),
    );
    expect(() => goldPath(build([[[1]], [[2]]]), [3])).toThrow(RangeError);
  });

  it("do not depend on the order in which nodes are told", () => {
    fc.assert(
      fc.property(someLabels, fc.integer(), (sequences, seed) => {
        const trie = build(sequences);
        const search = new LabelSearch(trie, "all");
        const nodes = search.wanted().toReversed();
        for (const node of nodes) search.tell(node, scorer(seed)(node));
        expect(search.wanted()).toEqual([]);
        const inOrder = Object.fromEntries(
          probabilities(trie, scorer(seed)).map(each => [each.label, each.logprob]),
        );
        expect(Object.fromEntries(search.scores().map(each => [each.label, each.logprob]))).toEqual(inOrder);
      }),
    );
  });

  it("stay finite where logits are far apart", () => {
    const trie = build([[[1]], [[2]]]);
    expect(probabilities(trie, () => [1e4, -1e4]).map(({ logprob }) => logprob)).toEqual([0, -2e4]);
    expect(() => probabilities(trie, () => [1])).toThrow(RangeError);
  });
});

describe("searchTop", () => {
  it("finds the full walk's best label with its P, and visits no node twice", () => {
    fc.assert(
      fc.property(someLabels, fc.integer(), (sequences, seed) => {
        const trie = build(sequences);
        const full = probabilities(trie, scorer(seed)).sort((a, b) => b.logprob - a.logprob);
        const visits: TrieNode[] = [];
        const top = searchTop(trie, scorer(seed, visits));
        expect(top[0]).toEqual(full[0]);
        expect(new Set(visits).size).toBe(visits.length);
        expect(visits.length).toBeLessThanOrEqual(decisions(trie).length);
        for (const each of top) expect(full).toContainEqual(each);
      }),
      { numRuns: 500 },
    );
  });

  it("settles labels that are asked for too, with their P by the full walk", () => {
    fc.assert(
      fc.property(someLabels, fc.integer(), fc.nat(), (sequences, seed, chosen) => {
        const trie = build(sequences);
        const wanted = trie.labels[chosen % trie.labels.length]!;
        const full = probabilities(trie, scorer(seed)).sort((a, b) => b.logprob - a.logprob);
        const visits: TrieNode[] = [];
        const top = searchTop(trie, scorer(seed, visits), [wanted]);
        expect(top[0]).toEqual(full[0]);
        expect(top).toContainEqual(full.find(({ label }) => label === wanted));
        expect(new Set(visits).size).toBe(visits.length);
      }),
      { numRuns: 500 },
    );
  });

  it("asks for more nodes at a time the longer it takes", () => {
    // 64 labels of three tokens that are all as likely: one decision, four, sixteen.
    const digits = [0, 1, 2, 3];
    const trie = build(digits.flatMap(a => digits.flatMap(b => digits.map(c => [[a, b, c]]))));
    const search = new LabelSearch(trie, "top");
    const counts: number[] = [];
    for (let nodes = search.wanted(); nodes.length > 0; nodes = search.wanted()) {
      expect(search.wanted()).toEqual(nodes);
      counts.push(nodes.length);
      for (const node of nodes) search.tell(node, [0, 0, 0, 0]);
    }
    expect(counts.reduce((a, b) => a + b)).toBe(decisions(trie).length);
    // The last round asks for what is left.
    const growing = counts.slice(0, -1);
    expect(growing).toEqual(growing.toSorted((a, b) => a - b));
    expect(counts.length).toBeLessThan(11);
  });

  it("leaves branches alone that cannot win", () => {
    const trie = build([[[1, 1]], [[1, 2]], [[2, 1]], [[2, 2]], [[3, 1]], [[3, 2]]]);
    const visits: TrieNode[] = [];
    const score = (node: TrieNode) => {
      visits.push(node);
      return node.path.length === 0 ? [0, 5, 0] : [3, 0];
    };
    expect(searchTop(trie, score).map(({ label }) => label)).toEqual(["label 2", "label 3"]);
    expect(visits.map(node => node.path)).toEqual([[], [2]]);
  });

  it("puts the first of equal labels first", () => {
    expect(searchTop(build([[[2]], [[1]]]), () => [1, 1]).map(({ label }) => label)).toEqual([
      "label 0",
      "label 1",
    ]);
  });
});
