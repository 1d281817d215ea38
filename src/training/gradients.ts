/**
 * Where a trainer's gradients come from: one run of the whole gradient graph, or, where that would take more memory
 * than a trainer may hold, a run a layer. Which of the two follows from the rows alone, so that a run repeats itself.
 */
import type { BackboneConfig } from "../backbone/source.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { inOwnBasis } from "../compile/basis.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type Parameter, trainingFeeds } from "./batches.ts";
import { runBytes, WHOLE_BYTES } from "./bytes.ts";
import { type Method, trainingGraph } from "./graph.ts";
import type { TrainingRow } from "./rows.ts";
import { segmentsOf } from "./segments.ts";
import { StagedGradient } from "./staged.ts";

export interface Gradient {
  loss: number;
  /** A parameter each, of its size; the caller's. */
  gradients: Float32Array[];
}

export interface GradientSource {
  /** Of the rows' loss, every weight multiplied by `scale`, where the parameters stand now. */
  run(rows: readonly TrainingRow[], scale: number): Promise<Gradient>;
  /** Whether the rows fit into one run together. */
  fits(rows: readonly TrainingRow[]): boolean;
  close(): Promise<void>;
}

export type Variant = Pick<CompiledBackbone, "precision" | "weights" | "valueScales" | "compile">;

export interface GradientOptions {
  runtime: Runtime;
  /** The variant of the backbone that computes. */
  compiled: Variant;
  config: BackboneConfig;
  /** A step graph with output `loss`. */
  loss: Graph;
  method: Method;
  parameters: readonly Parameter[];
  /** Awaited between the runs that one gradient takes. */
  pause?: () => Promise<void>;
  /** What one run may hold; rows that would hold more are staged. */
  bytes?: number;
  /** What a staged run may hold of logits and of what is computed from them, and of one tensor of attention scores. */
  logitBytes?: number;
  scoreBytes?: number;
}

/** Chooses by the rows; what no row needs is never loaded. */
export function openGradients(options: GradientOptions): GradientSource {
  const { config, parameters, bytes = WHOLE_BYTES } = options;
  const [{ input, dims }] = parameters as [Parameter];
  const past = input === "virtual" ? 0 : dims[2]!;
  const fits = (rows: readonly TrainingRow[]) => runBytes(rows, past, config) <= bytes;
  const opened = new Map<typeof whole, ReturnType<typeof whole>>();
  return {
    fits,
    run: async (rows, scale) => {
      const open = fits(rows) ? whole : staged;
      const gradients = opened.get(open) ?? open(options);
      opened.set(open, gradients);
      return (await gradients).run(rows, scale);
    },
    close: async () => {
      for (const gradients of opened.values()) await (await gradients).close();
    },
  };
}

/** One run for everything. */
export async function whole(options: GradientOptions): Promise<Omit<GradientSource, "fits">> {
  const { runtime, compiled, config, loss, method, parameters } = options;
  const graph = compiled.compile(trainingGraph(inOwnBasis(loss, compiled.valueScales), method));
  const session = await runtime.load(graph, compiled.weights, {
    // Packed codes cost 0.2 GB and save an eighth of a step; packed floats 0.8 GB and a twentieth.
    packed: compiled.precision === "int8",
    memory: "kept",
  });
  const names = parameters.map(({ input }) => `d.${input}`);
  return {
    run: async (rows, scale) => {
      const found = await session.run(trainingFeeds(rows, parameters, config, scale), ["loss", ...names]);
      return {
        loss: Number(found.loss!.data[0]),
        gradients: names.map(name => found[name]!.data as Float32Array),
      };
    },
    close: () => session.close(),
  };
}

/** A run a layer. */
export async function staged(options: GradientOptions): Promise<Omit<GradientSource, "fits">> {
  const { loss, method, config, compiled } = options;
  const segments = segmentsOf(loss, method, config, compiled.compile);
  return new StagedGradient({ ...options, segments });
}
