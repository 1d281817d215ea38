/**
 * The gradient of rows too long for one run: forwards only the hidden states between layers are kept, backwards each
 * layer is computed again (Chen et al. 2016), attention a part at a time. Memory is one layer's without its scores,
 * and the hidden states; arithmetic is half as much again, less what attention saves.
 */

import { type Feeds, float32 } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { scaleValues } from "../compile/basis.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime, RuntimeTensor, Tensors } from "../runtime/runtime.ts";
import { addTo, RowAttention } from "./attention.ts";
import { type Parameter, trainingFeeds } from "./batches.ts";
import { LOGITS } from "./bytes.ts";
import { FedGraphs } from "./fed.ts";
import type { Gradient } from "./gradients.ts";
import type { TrainingRow } from "./rows.ts";
import type { Segments } from "./segments.ts";
import { GraphSessions } from "./sessions.ts";

/** 341 tokens of SmolLM2's vocabulary at a time. */
const LOGIT_BYTES = 2 ** 28;

export interface StagedOptions {
  runtime: Runtime;
  compiled: Pick<CompiledBackbone, "weights" | "valueScales">;
  segments: Segments;
  config: BackboneConfig;
  parameters: readonly Parameter[];
  /** Inputs that nothing moves. */
  frozen?: readonly Parameter[];
  /** Awaited between runs. */
  pause?: () => Promise<void>;
  /** What a run may hold of logits and of what is computed from them. */
  logitBytes?: number;
  /** What a run may hold of one tensor of attention scores. */
  scoreBytes?: number;
}

export class StagedGradient {
  readonly #options: StagedOptions;
  readonly #layers: FedGraphs;
  /** Of the parts that are no layer's: attention has no weights, the others read the vocabulary's table. */
  readonly #others: GraphSessions;

  constructor(options: StagedOptions) {
    this.#options = options;
    this.#layers = new FedGraphs(options.runtime, options.compiled.weights);
    this.#others = new GraphSessions({ ...options, memory: "returned" });
  }

  /** A row at a time. */
  async run(rows: readonly TrainingRow[], scale: number): Promise<Gradient> {
    const { parameters } = this.#options;
    const sum: Gradient = { loss: 0, gradients: parameters.map(({ data }) => new Float32Array(data.length)) };
    for (const row of rows) {
      const { loss, found } = await this.#row(row, scale);
      sum.loss += loss;
      for (const [index, { input }] of parameters.entries())
        addTo(sum.gradients[index]!, floats(found.get(input)!));
    }
    return sum;
  }

  async close(): Promise<void> {
    await this.#layers.close();
    await this.#others.close();
  }

  /** The loss, and its gradient by input. */
  async #row(row: TrainingRow, scale: number) {
    const { segments, config, parameters, frozen = [], scoreBytes } = this.#options;
    const feeds = this.#intoVariant(trainingFeeds([row], [...parameters, ...frozen], config, scale));
    const run = (graph: Graph, given: Tensors) => this.#others.run(graph, given);
    const attention = new RowAttention({ config, graphs: segments.attention, feeds, run, scoreBytes });
    const states = [(await run(segments.embed, feeds)).hidden!];
    for (const layer of segments.layers.keys())
      states.push(await this.#forwards(layer, feeds, attention, states.at(-1)!));
    const { loss, cotangent } = await this.#loss(feeds, states.pop()!);
    const found = new Map<string, RuntimeTensor>();
    let d = cotangent;
    for (const layer of [...segments.layers.keys()].reverse()) {
      const made = await this.#back(layer, feeds, attention, states.pop()!, d);
      d = made.d;
      for (const part of ["past_key", "past_value"])
        if (made.cotangents[`d.${part}`]) found.set(`${part}.${layer}`, made.cotangents[`d.${part}`]!);
    }
    for (const [input, cotangent] of found) found.set(input, this.#scaled(input, cotangent));
    if (segments.embedBack)
      found.set("virtual", (await run(segments.embedBack, { ...feeds, d }))["d.virtual"]!);
    return { loss, found };
  }

  /** Values of the past, which come in the backbone's own basis, as the variant has them. */
  #intoVariant(feeds: Feeds): Feeds {
    return Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, this.#scaled(name, feed)]));
  }

  /** A past's values divided by the variant's scales; so are their cotangents on the way back. */
  #scaled(name: string, tensor: RuntimeTensor): RuntimeTensor {
    const { compiled, config } = this.#options;
    const layer = /^past_value\.(\d+)$/.exec(name)?.[1];
    if (!compiled.valueScales || layer === undefined) return tensor;
    const scales = compiled.valueScales[Number(layer)]!;
    return float32(tensor.dims, scaleValues(floats(tensor), scales, config, "into the variant"));
  }

  /** What a layer makes of `hidden`. */
  async #forwards(layer: number, feeds: Feeds, attention: RowAttention, hidden: RuntimeTensor) {
    const { project, finish } = this.#options.segments.layers[layer]!;
    const projected = await this.#layer(project, { ...feeds, hidden });
    const mixed = await attention.forward(projectedOf(projected, feeds, layer));
    return (await this.#layer(finish, { ...feeds, hidden, mixed })).after!;
  }

  /** From the cotangent `d` of what a layer made of `hidden` to that of `hidden`, and of keys and values. */
  async #back(layer: number, feeds: Feeds, attention: RowAttention, hidden: RuntimeTensor, d: RuntimeTensor) {
    const { project, projectBack, finishBack } = this.#options.segments.layers[layer]!;
    const projected = projectedOf(await this.#layer(project, { ...feeds, hidden }), feeds, layer);
    const mixed = await attention.forward(projected);
    const behind = await this.#layer(finishBack, { ...feeds, hidden, mixed, d });
    const cotangents = await attention.back(projected, behind["d.mixed"]!);
    const before = await this.#layer(projectBack, { ...feeds, hidden, ...cotangents });
    const sum = floats(behind["d.hidden"]!);
    addTo(sum, floats(before["d.hidden"]!));
    return { d: float32(hidden.dims, sum), cotangents };
  }

  /** The loss, and its cotangent at the last hidden state: over so many predicted tokens at a time as memory allows. */
  async #loss(feeds: Feeds, hidden: RuntimeTensor): Promise<{ loss: number; cotangent: RuntimeTensor }> {
    const { segments, config, logitBytes = LOGIT_BYTES } = this.#options;
    const size = Math.max(1, Math.floor(logitBytes / (LOGITS * 4 * config.vocabSize)));
    const sum = new Float32Array(hidden.data.length);
    let loss = 0;
    for (const part of chunks(feeds, size)) {
      const made = await this.#others.run(segments.loss, { ...feeds, ...part, hidden });
      loss += Number(made.loss!.data[0]);
      addTo(sum, floats(made["d.hidden"]!));
    }
    return { loss, cotangent: float32(hidden.dims, sum) };
  }

  async #layer(graph: Graph, feeds: Tensors): Promise<Record<string, RuntimeTensor>> {
    await this.#options.pause?.();
    return this.#layers.run(
      graph,
      feeds,
      graph.outputs.map(({ name }) => name),
    );
  }
}

const floats = (tensor: RuntimeTensor): Float32Array => tensor.data as Float32Array;

const projectedOf = ({ query, key, value }: Tensors, feeds: Feeds, layer: number) => ({
  query: query!,
  key: key!,
  value: value!,
  past_key: feeds[`past_key.${layer}`]!,
  past_value: feeds[`past_value.${layer}`]!,
});

/** The predicted tokens in parts of at most `size`; one part where none is predicted over the whole vocabulary. */
function chunks(feeds: Feeds, size: number): Feeds[] {
  const count = feeds.sampled!.dims[0]!;
  const starts = Array.from({ length: Math.ceil(count / size) }, (_, index) => index * size);
  if (starts.length <= 1) return [{}];
  return starts.map(start =>
    Object.fromEntries(
      ["sampled", "next", "gold"].map(name => {
        const { type, dims, data } = feeds[name]!;
        const part = data.slice(start, start + size);
        return [name, { type, dims: dims.with(0, part.length), data: part } as RuntimeTensor];
      }),
    ),
  );
}
