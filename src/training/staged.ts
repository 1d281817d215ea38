/**
 * The gradient of rows too long for one run: forwards only the hidden states between layers are kept and what each
 * layer's attention mixed, backwards all else is computed again (Chen et al. 2016), attention a part at a time. Memory
 * is one layer's without its scores, and what is kept; arithmetic is half as much again, less what attention saves.
 */

import { type Feeds, float32, floats } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { scaleValues } from "../compile/basis.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime, RuntimeTensor, Tensors } from "../runtime/runtime.ts";
import { addTo, type Projected, RowAttention } from "./attention.ts";
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

/** What is kept of a layer for the way back. */
interface Kept {
  hidden: RuntimeTensor;
  mixed: RuntimeTensor;
}

export class StagedGradient {
  readonly #options: StagedOptions;
  readonly #layers: FedGraphs;
  /** Sessions for the embedding and the loss, which read the vocabulary's table. */
  readonly #ends: GraphSessions;
  /** Small, and run so often that giving memory back and taking it again would be an eighth of the time. */
  readonly #attention: GraphSessions;

  constructor(options: StagedOptions) {
    this.#options = options;
    this.#layers = new FedGraphs(options.runtime, options.compiled.weights);
    this.#ends = new GraphSessions({ ...options, memory: "returned" });
    const { runtime, compiled } = options;
    this.#attention = new GraphSessions({ runtime, compiled, memory: "kept" });
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
    await this.#ends.close();
    await this.#attention.close();
  }

  /** The loss, and its gradient by input. */
  async #row(row: TrainingRow, scale: number) {
    const { segments, config, parameters, frozen = [], scoreBytes, pause } = this.#options;
    const feeds = this.#intoVariant(trainingFeeds([row], [...parameters, ...frozen], config, scale));
    const attention = new RowAttention({
      config,
      graphs: segments.attention,
      feeds,
      run: (graph, given) => this.#attention.run(graph, given),
      pause,
      scoreBytes,
    });
    const kept: Kept[] = [];
    let hidden = (await this.#ends.run(segments.embed, feeds)).hidden!;
    for (const layer of segments.layers.keys()) {
      const made = await this.#forwards(layer, feeds, attention, hidden);
      kept.push({ hidden, mixed: made.mixed });
      hidden = made.after;
    }
    const { loss, cotangent } = await this.#loss(feeds, hidden);
    const found = new Map<string, RuntimeTensor>();
    let d = cotangent;
    for (const layer of [...segments.layers.keys()].reverse()) {
      const made = await this.#back(layer, feeds, attention, kept.pop()!, d);
      d = made.d;
      if (segments.embedBack) continue;
      found.set(`past_key.${layer}`, made.cotangents["d.past_key"]);
      found.set(`past_value.${layer}`, made.cotangents["d.past_value"]);
    }
    for (const [input, cotangent] of found) found.set(input, this.#scaled(input, cotangent));
    if (segments.embedBack)
      found.set("virtual", (await this.#ends.run(segments.embedBack, { ...feeds, d }))["d.virtual"]!);
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

  /** What a layer makes of `hidden`, and what its attention mixed on the way. */
  async #forwards(layer: number, feeds: Feeds, attention: RowAttention, hidden: RuntimeTensor) {
    const { project, finish } = this.#options.segments.layers[layer]!;
    const projected = await this.#layer(project, { ...feeds, hidden });
    const mixed = await attention.forward(projectedOf(projected, feeds, layer));
    return { mixed, after: (await this.#layer(finish, { ...feeds, hidden, mixed })).after! };
  }

  /** From the cotangent `d` of what a layer made of `hidden` to that of `hidden`, and of keys and values. */
  async #back(layer: number, feeds: Feeds, attention: RowAttention, kept: Kept, d: RuntimeTensor) {
    const { hidden, mixed } = kept;
    const { project, projectBack, finishBack } = this.#options.segments.layers[layer]!;
    const projected = projectedOf(await this.#layer(project, { ...feeds, hidden }), feeds, layer);
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
      const made = await this.#ends.run(segments.loss, { ...feeds, ...part, hidden });
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

const projectedOf = ({ query, key, value }: Tensors, feeds: Feeds, layer: number): Projected => ({
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
