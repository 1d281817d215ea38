/**
 * The gradient of rows too long for one run: forwards only the hidden states between layers are kept, backwards each
 * layer is computed again, a session run at a time. Memory is one layer's, and a third more arithmetic.
 */
import type { BackboneConfig } from "../backbone/source.ts";
import { type Feeds, float32 } from "../engine/feeds.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime, RuntimeTensor, Session, Tensors, WeightFile } from "../runtime/runtime.ts";
import { type Parameter, trainingFeeds } from "./batches.ts";
import { FedGraphs } from "./fed.ts";
import type { Gradient } from "./gradients.ts";
import type { TrainingRow } from "./rows.ts";
import type { Segments } from "./segments.ts";

/** 341 tokens of SmolLM2's vocabulary at a time. */
const LOGIT_BYTES = 2 ** 28;
/** Tensors of the logits' size that live together on the way to their gradient. */
const LOGIT_COPIES = 4;

export interface StagedOptions {
  runtime: Runtime;
  weights: WeightFile;
  segments: Segments;
  config: BackboneConfig;
  parameters: readonly Parameter[];
  /** Awaited before every run but the first. */
  pause?: () => Promise<void>;
  /** What a run may hold of logits and of what is computed from them. */
  logitBytes?: number;
}

export class StagedGradient {
  readonly #options: StagedOptions;
  readonly #layers: FedGraphs;
  /** Of the parts with the embedding table, which stays mapped. */
  readonly #sessions = new Map<Graph, Promise<Session>>();

  constructor(options: StagedOptions) {
    this.#options = options;
    this.#layers = new FedGraphs(options.runtime, options.weights);
  }

  async run(rows: readonly TrainingRow[], scale: number): Promise<Gradient> {
    const { segments, config, parameters } = this.#options;
    const feeds = trainingFeeds(rows, parameters, config, scale);
    const states = await this.#forwards(feeds);
    const { loss, cotangent } = await this.#loss(feeds, states.pop()!);
    const found = new Map<string, Float32Array>();
    let d = cotangent;
    for (const [layer, { back }] of [...segments.layers.entries()].reverse()) {
      await this.#options.pause?.();
      const given = { ...layerFeeds(feeds, layer), hidden: states.pop()!, d };
      const made = await this.#layers.run(
        back,
        given,
        back.outputs.map(({ name }) => name),
      );
      d = made["d.hidden"]!;
      for (const part of ["past_key", "past_value"])
        if (made[`d.${part}`]) found.set(`${part}.${layer}`, floats(made[`d.${part}`]!));
    }
    if (segments.embedBack) {
      const made = await this.#run(segments.embedBack, { ...feeds, d });
      found.set("virtual", floats(made["d.virtual"]!));
    }
    return { loss, gradients: parameters.map(({ input }) => found.get(input)!) };
  }

  async close(): Promise<void> {
    await this.#layers.close();
    for (const session of this.#sessions.values()) await (await session).close();
  }

  /** What every layer reads, and what the last one leaves. */
  async #forwards(feeds: Feeds): Promise<RuntimeTensor[]> {
    const { segments, pause } = this.#options;
    const states = [(await this.#run(segments.embed, feeds)).hidden!];
    for (const [layer, { forward }] of segments.layers.entries()) {
      await pause?.();
      const given = { ...layerFeeds(feeds, layer), hidden: states.at(-1)! };
      states.push((await this.#layers.run(forward, given, ["after"])).after!);
    }
    return states;
  }

  /** The loss, and its cotangent at the last hidden state: over so many predicted tokens at a time as memory allows. */
  async #loss(feeds: Feeds, hidden: RuntimeTensor): Promise<{ loss: number; cotangent: RuntimeTensor }> {
    const { segments, config, pause, logitBytes = LOGIT_BYTES } = this.#options;
    const size = Math.max(1, Math.floor(logitBytes / (LOGIT_COPIES * 4 * config.vocabSize)));
    const sum = new Float32Array(hidden.data.length);
    let loss = 0;
    for (const part of chunks(feeds, size)) {
      await pause?.();
      const made = await this.#run(segments.loss, { ...feeds, ...part, hidden });
      loss += Number(made.loss!.data[0]);
      const more = floats(made["d.hidden"]!);
      for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + more[i]!;
    }
    return { loss, cotangent: float32(hidden.dims, sum) };
  }

  async #run(graph: Graph, feeds: Tensors): Promise<Record<string, RuntimeTensor>> {
    const { runtime, weights } = this.#options;
    const session =
      this.#sessions.get(graph) ?? runtime.load(graph, weights, { packed: false, memory: "returned" });
    this.#sessions.set(graph, session);
    return (await session).run(
      feeds,
      graph.outputs.map(({ name }) => name),
    );
  }
}

const floats = (tensor: RuntimeTensor): Float32Array => tensor.data as Float32Array;

const layerFeeds = (feeds: Feeds, layer: number): Feeds => ({
  ...feeds,
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
