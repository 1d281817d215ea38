/** Examples become rows: what is fed behind the trained prefix, and what the objective asks at which token. */
import type { Example } from "../contract/dataset.ts";
import type { Task } from "../contract/task.ts";
import { boundFields } from "../engine/fit.ts";
import { ForewordError } from "../errors.ts";
import type { TextCodec } from "../prompt/codec.ts";
import { layoutPrefix, layoutRow, layoutWritten, positions, type Segment } from "../prompt/layout.ts";
import { type CompiledTemplate, fieldsOf } from "../prompt/template.ts";
import { branches, buildTrie, endBranch, goldPath, type LabelTrie, type TrieNode } from "../prompt/trie.ts";
import { spellings, verbalize } from "../prompt/verbalizer.ts";
import { noLabel } from "./check.ts";
import { answerOf, type LineProblem, refused } from "./examples.ts";
import type { Plan } from "./plan.ts";

/** A decision of the label trie, taken after the row's token `at`. */
export interface Decision {
  at: number;
  /** Vocabulary rows that compete; the end branch's is EOS. */
  candidates: readonly number[];
  /** How much each of them counts in -Σ weight · log P. */
  weights: readonly number[];
}

/** A token of the output, predicted after the row's token `at`. */
export interface NextToken {
  at: number;
  token: number;
  weight: number;
}

export interface TrainingRow {
  /** Words, and references to rows of the prompt's `soft` matrix. */
  segments: readonly Segment[];
  length: number;
  decisions: readonly Decision[];
  next: readonly NextToken[];
}

export interface RowContext {
  template: CompiledTemplate;
  codec: TextCodec;
  eos: number;
  /** Positions of every soft slot. */
  softLengths: readonly number[];
  /** What rows hold of the template before its first field: a trained prefix has BOS inside, a lead is computed apart. */
  beginning: "all" | "all but BOS" | "none";
  /** Positions that a row may take; what stands before it is not counted. */
  maxTokens: number;
  /** Positions that the backbone's context leaves for a row and all of its answer, as serving counts them. */
  room: number;
}

export interface ClassificationContext extends RowContext {
  trie: LabelTrie;
  /** Token ids of every label's verbalizers. */
  sequences: ReadonlyMap<string, readonly (readonly number[])[]>;
  /** Tokens of the longest of them. */
  longest: number;
  /** Weight of an example, by label. */
  weights: ReadonlyMap<string, number>;
  /** Share of the weight that is spread evenly over all candidates (Szegedy et al. 2016). */
  labelSmoothing: number;
}

export interface AnyContext extends RowContext {
  /** Null for generation. */
  labels: Omit<ClassificationContext, keyof RowContext> | null;
}

/** What stands before a run's rows. */
export interface Before {
  /** Positions of what the prompt is stacked on; 0 if that is nothing. */
  base: number;
  /** What `leadOf` found. */
  lead: TrainingRow | null;
}

/**
 * What laying out a plan's examples needs: `room` has the backbone's positions, less those of a base and of a trained
 * prefix. Throws `duplicate_verbalizer`.
 */
export function contextOf(
  { method, template, softLengths, maxTokens, labelSmoothing, classWeights }: Plan,
  { labels }: Pick<Task, "labels">,
  codec: TextCodec & { eosIds: readonly number[] },
  room: number,
  { base, lead }: Before = { base: 0, lead: null },
): AnyContext {
  const sequences = labels
    ? verbalize(labels, template).map(({ label, verbalizers }) => ({
        label,
        sequences: verbalizers.map(text => codec.encode(text)),
      }))
    : null;
  const left = Math.max(0, room - (lead?.length ?? 0));
  const held = method === "prefix" || lead ? 0 : positions(layoutPrefix(template, codec, softLengths));
  return {
    template,
    codec,
    eos: codec.eosIds[0]!,
    softLengths,
    beginning: lead ? "none" : method === "prefix" || base > 0 ? "all but BOS" : "all",
    maxTokens: Math.min(maxTokens + held, left),
    room: left,
    labels: sequences && {
      trie: buildTrie(sequences),
      sequences: new Map(sequences.map(each => [each.label, each.sequences])),
      longest: Math.max(...sequences.flatMap(each => each.sequences.map(({ length }) => length))),
      weights: classWeights,
      labelSmoothing,
    },
  };
}

/** Rows of every example. Throws `bad_dataset` that counts those that do not fit and names `field`'s first lines. */
export function layOut(
  examples: readonly Example[],
  { labels, ...context }: AnyContext,
  lineOf: (example: Example) => number,
  field: string,
  rowsOf: (example: Example, context: ClassificationContext) => TrainingRow[] = classificationRows,
): TrainingRow[][] {
  const problems: LineProblem[] = [];
  const rows = examples.map(example => {
    try {
      return labels ? rowsOf(example, { ...context, ...labels }) : [generationRow(example, context)];
    } catch (error) {
      if (!(error instanceof ForewordError)) throw error;
      problems.push({ line: lineOf(example), detail: error.message });
      return [];
    }
  });
  if (problems.length > 0) throw refused(problems, field);
  return rows;
}

/**
 * The mean of -log P(verbalizer) over the verbalizers of the example's label: a bound from above on -log of their sum.
 * Throws `bad_dataset` on a label that the task has not, or a row that is too long.
 */
export function classificationRows(example: Example, context: ClassificationContext): TrainingRow[] {
  const { trie, sequences, labelSmoothing } = context;
  const label = answerOf(example);
  const verbalizers = sequences.get(label);
  if (!verbalizers) throw new ForewordError("bad_dataset", noLabel({ labels: [...sequences.keys()] }, label));
  const weight = (context.weights.get(label) ?? 1) / verbalizers.length;
  const weights = new Map<TrieNode, number[]>();
  for (const { node, branch } of verbalizers.flatMap(sequence => goldPath(trie, sequence))) {
    const count = branches(node).length;
    const sum = weights.get(node) ?? new Array<number>(count).fill(0);
    weights.set(
      node,
      sum.map(
        (each, i) => each + weight * ((i === branch ? 1 - labelSmoothing : 0) + labelSmoothing / count),
      ),
    );
  }
  // What is longest comes to most decisions, and leaves others none of their own.
  const ways = verbalizers.toSorted((a, b) => b.length - a.length);
  return rowsOn(ways, example, node => weights.get(node)!, context);
}

/**
 * Rows, `most` of them, that are fed the beginnings of `ways`, sequences of the trie: each decision on them is taken
 * once, in the first row that comes to it, with the weights of its node's branches.
 */
export function rowsOn(
  ways: readonly (readonly number[])[],
  example: Example,
  weightsOf: (node: TrieNode) => readonly number[],
  context: ClassificationContext,
  most = ways.length,
): TrainingRow[] {
  const input = inputSegments(example, context);
  const end = positions(input) - 1;
  const seen = new Set<TrieNode>();
  const rows: TrainingRow[] = [];
  for (const sequence of ways) {
    if (rows.length === most) break;
    const nodes = goldPath(context.trie, sequence)
      .map(({ node }) => node)
      .filter(node => !seen.has(node));
    // A task of one label decides nothing; its examples have a row all the same.
    if (nodes.length === 0 && rows.length > 0) continue;
    for (const node of nodes) seen.add(node);
    const decisions = nodes.map(node => ({
      at: end + node.path.length,
      candidates: branches(node).map(token => (token === endBranch ? context.eos : token)),
      weights: weightsOf(node),
    }));
    // Tokens after the last decision decide nothing.
    const fed = sequence.slice(0, Math.max(0, ...decisions.map(({ at }) => at - end)));
    rows.push(row({ input, fed, decisions, next: [], answer: context.longest }, context));
  }
  return rows;
}

/** The output's tokens and EOS, each predicted from what stands before it; their mean is the example's loss. */
export function generationRow(example: Example, context: RowContext): TrainingRow {
  if (!("output" in example))
    throw new ForewordError(
      "bad_dataset",
      "The example has no output. Give every example the text that answers it.",
    );
  const input = inputSegments(example, context);
  const output = [...context.codec.encode(example.output), context.eos];
  const end = positions(input) - 1;
  const next = output.map((token, index) => ({ at: end + index, token, weight: 1 / output.length }));
  const { codec, template } = context;
  const answer = 1 + Math.max(...spellings(example.output, template).map(text => codec.encode(text).length));
  return row({ input, fed: output.slice(0, -1), decisions: [], next, answer }, context);
}

function inputSegments(
  { input }: Example,
  { template, codec, softLengths, beginning, room }: RowContext,
): Segment[] {
  const layouts = { all: layoutPrefix, "all but BOS": layoutWritten, none: () => [] };
  const names = fieldsOf(template).map(({ name }) => name);
  // As serving does, which would refuse the text at the first look.
  const fields = boundFields(input, names, room, text => codec.encode(text), undefined);
  return [
    ...layouts[beginning](template, codec, softLengths),
    ...layoutRow(template, codec, fields, softLengths),
  ];
}

interface Parts extends Pick<TrainingRow, "decisions" | "next"> {
  input: readonly Segment[];
  fed: readonly number[];
  /** Tokens that serving leaves room for behind the input. */
  answer: number;
}

/** What couldn't be answered is refused too, or the first look at validation would fail at it, or a donor's trial. */
function row({ input, fed, decisions, next, answer }: Parts, { maxTokens, room }: RowContext): TrainingRow {
  const segments: Segment[] = [...input, { ids: [...fed] }];
  const length = positions(segments);
  const answered = positions(input) + answer;
  const [tokens, limit] = answered - room > length - maxTokens ? [answered, room] : [length, maxTokens];
  if (tokens > limit) {
    throw new ForewordError(
      "bad_dataset",
      `The example has ${tokens} tokens; at most ${limit} fit. Shorten it, or raise max_tokens where the backbone's context has room.`,
      { tokens, limit, over: tokens - limit },
    );
  }
  const full = segments.filter(segment => !("ids" in segment) || segment.ids.length > 0);
  return { segments: full, length, decisions, next };
}
