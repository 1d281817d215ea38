/** Where training starts, and the prompt file that it ends as. */
import { moveKeys } from "../backbone/architectures/rotary.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { scaleValues } from "../compile/basis.ts";
import type { Example } from "../contract/dataset.ts";
import type { Task, Verbalizers } from "../contract/task.ts";
import type { Init } from "../contract/train.ts";
import type { PromptContent } from "../engine/engine.ts";
import type { KvBlock } from "../engine/kv.ts";
import { randomFrom } from "../engine/sampler.ts";
import type { TextCodec } from "../prompt/codec.ts";
import { type Dtype, type PromptLayer, writePromptFile } from "../prompt/file.ts";
import { layoutRow, layoutWritten } from "../prompt/layout.ts";
import { type CompiledTemplate, compileTemplate, hasSlots } from "../prompt/template.ts";
import { verbalize } from "../prompt/verbalizer.ts";
import { type Parameter, shuffled } from "./batches.ts";
import { answerOf } from "./examples.ts";
import type { Method } from "./graph.ts";
import { rootMeanSquare } from "./optimiser.ts";

/** Byte-pair vocabularies number frequent tokens first; Lester et al. 2021 sample from the 5,000 most frequent. */
const FREQUENT = 5000;
/** Examples that a start shows. */
const SHOWN = 8;
/** Positions of a start by chance. */
const BY_CHANCE = 20;

export interface StartContext {
  init: Init;
  template: CompiledTemplate;
  /** The prompt that `init` names. */
  initial: PromptContent | null;
  task: Pick<Task, "labels" | "description">;
  examples: readonly Example[];
  codec: TextCodec;
  /** Tokens in all. */
  vocabulary: number;
  seed: number;
}

/** Token ids that trained positions begin as, BOS left out; the words that they take the place of come last. */
export function startIds({
  init,
  initial,
  template,
  task,
  examples,
  codec,
  seed,
  ...rest
}: StartContext): number[] {
  if (typeof init === "object") {
    if ("text" in init) return codec.encodeWithSpecials(init.text, { first: true });
    return wordIds(initial ? compileTemplate(initial.template) : template, codec);
  }
  const words = wordIds(template, codec);
  switch (init) {
    // Where no donor is better.
    case "donor":
    case "examples":
      return [...shownExamples(template, task, examples, codec, seed), ...words];
    case "labels":
      return [...labelIds(template, task, codec), ...words];
    case "vocabulary":
    case "random": {
      const random = randomFrom(seed);
      const most = Math.min(FREQUENT, rest.vocabulary);
      return Array.from({ length: BY_CHANCE }, () => Math.floor(random() * most));
    }
  }
}

/** The words before the first field; none of a template with soft slots. */
const wordIds = (template: CompiledTemplate, codec: TextCodec): number[] =>
  hasSlots(template) ? [] : idsOf(layoutWritten(template, codec));

function labelIds(template: CompiledTemplate, { labels }: StartContext["task"], codec: TextCodec): number[] {
  const all = labels ? verbalize(labels, template) : [];
  return all.flatMap(({ verbalizers }) => verbalizers.flatMap(text => codec.encode(text)));
}

/** Worked examples in the template's own form, one of each label first, as a few-shot prompt has them. */
function shownExamples(
  template: CompiledTemplate,
  task: StartContext["task"],
  examples: readonly Example[],
  codec: TextCodec,
  seed: number,
): number[] {
  const plain = withoutSlots(template);
  const verbalizers = new Map(
    (task.labels ? verbalize(task.labels, template) : []).map(each => [each.label, each.verbalizers[0]!]),
  );
  return chosenExamples(examples, seed).flatMap(example => {
    const answer = "label" in example ? verbalizers.get(example.label)! : answerOf(example);
    const ids = [...idsOf(layoutWritten(plain, codec)), ...idsOf(layoutRow(plain, codec, example.input))];
    return [...ids, ...codec.encode(answer), ...codec.encode("\n\n")];
  });
}

/** Those that a start shows. */
export function chosenExamples(examples: readonly Example[], seed: number): Example[] {
  const order = shuffled(examples.length, randomFrom(seed)).map(index => examples[index]!);
  const seen = new Set<string>();
  const first = order.filter(each => "label" in each && !seen.has(each.label) && seen.add(each.label));
  return [...first, ...order.filter(each => !first.includes(each))].slice(0, SHOWN);
}

const withoutSlots = (template: CompiledTemplate): CompiledTemplate => ({
  ...template,
  pieces: template.pieces.filter(piece => piece.kind !== "soft"),
});

/** The words of a template without slots. */
function idsOf(segments: ReturnType<typeof layoutRow>): number[] {
  return segments.flatMap(segment => ("ids" in segment ? segment.ids : []));
}

/** The end of too many, what stands nearest to the input; too few are repeated before themselves. */
export function fitIds(ids: readonly number[], length: number): number[] {
  const from = ids.length > 0 ? ids : [0];
  return Array.from({ length }, (_, i) => from.at(-1 - ((length - 1 - i) % from.length))!);
}

/**
 * A prefix that begins as the keys and values of a text's forward pass (Eyuboglu et al. 2025 found random starts to
 * fail): `[1, kvHeads, P, headDim]` a key and a value a layer, in the backbone's own basis.
 */
export function prefixFrom(
  block: KvBlock,
  config: BackboneConfig,
  scales: CompiledBackbone["valueScales"],
): Parameter[] {
  const dims = [1, config.kvHeads, block.length, config.headDim];
  return block.key.flatMap((key, layer) => {
    const value = block.value[layer]!;
    const own = scales ? scaleValues(value, scales[layer]!, config, "out of the variant") : value.slice();
    return [
      { input: `past_key.${layer}`, dims, data: key.slice() },
      { input: `past_value.${layer}`, dims, data: own },
    ];
  });
}

/** Virtual tokens that begin as rows of the embedding table: `[ids, hidden]`. */
export function softFrom(ids: readonly number[], table: Float32Array, hidden: number): Parameter[] {
  const data = new Float32Array(ids.length * hidden);
  for (const [position, id] of ids.entries())
    data.set(table.subarray(id * hidden, (id + 1) * hidden), position * hidden);
  return [{ input: "virtual", dims: [ids.length, hidden], data }];
}

/** Box and Muller. */
const normal = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** The same tensors with numbers by chance, normal, as spread out as what they replace. */
export function randomLike(parameters: readonly Parameter[], seed: number): Parameter[] {
  const random = randomFrom(seed);
  return parameters.map(parameter => {
    const spread = rootMeanSquare(parameter.data);
    return { ...parameter, data: parameter.data.map(() => spread * normal(random)) };
  });
}

export interface Trained {
  method: Method;
  template: string;
  /** The backbone's fingerprint. */
  backbone: string;
  recipe: unknown;
  /** Keys and values stand where training had them: behind the base. */
  parameters: readonly Parameter[];
  verbalizers: Verbalizers | null;
  bases: readonly PromptLayer[];
  /** Positions of the bases. */
  start: number;
}

/** The project's own prompt file (contract, section 3). */
export function promptFileOf(
  { method, parameters, verbalizers, bases, start, ...rest }: Trained,
  config: BackboneConfig,
  dtype: Dtype = "F32",
): Uint8Array {
  const about = {
    kind: method,
    ...rest,
    ...(verbalizers && { verbalizers }),
    ...(bases.length > 0 && { bases }),
  } as const;
  if (method === "soft") {
    const { dims, data } = parameters[0]!;
    return writePromptFile({ ...about, soft: { dims: [dims[0]!, dims[1]!], data } }, dtype);
  }
  const part = (name: "past_key" | "past_value") =>
    parameters.filter(({ input }) => input.startsWith(name)).map(({ data }) => data);
  const [keys, values] = [part("past_key"), part("past_value")];
  const [, kvHeads, length, headDim] = parameters[0]!.dims as [number, number, number, number];
  const join = (layers: readonly Float32Array[]) => {
    const all = new Float32Array(layers.length * kvHeads * length * headDim);
    for (const [layer, data] of layers.entries()) all.set(data, layer * data.length);
    return all;
  };
  const prefix = {
    dims: [keys.length, kvHeads, length, headDim] as const,
    key: join(keys.map(data => moveKeys(data, -start, config))),
    value: join(values),
  };
  return writePromptFile({ ...about, prefix }, dtype);
}
