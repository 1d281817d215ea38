/**
 * Where a trainer's gradients come from: one run of the whole gradient graph, or, where that would take more memory
 * than a trainer may hold, a run a layer. Which of the two follows from the rows alone, so that a run repeats itself.
 */
import type { BackboneConfig } from "../backbone/source.ts";
import type { CompiledBackbone } from "../compile/backbone.ts";
import { inOwnBasis } from "../compile/basis.ts";
import type { Graph } from "../graph/graph.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { addTo } from "./attention.ts";
import { type Parameter, pastLength, tokensOf, trainingFeeds } from "./batches.ts";
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
  /** The gradient of the loss over all parts' rows at the current parameters, with every weight multiplied by `scale`. */
  run(parts: readonly (readonly TrainingRow[])[], scale: number): Promise<Gradient>;
  /** Whether the rows fit into one part together. */
  fits(rows: readonly TrainingRow[]): boolean;
  close(): Promise<void>;
}

/** How the gradient of a part is computed: in one run, or layer by layer. */
interface GradientRun {
  run(rows: readonly TrainingRow[], scale: number): Promise<Gradient>;
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
  /** Inputs that nothing moves: a past before virtual tokens. */
  frozen?: readonly Parameter[];
  /** Awaited before every part, and between the runs that one takes. */
  pause?: () => Promise<void>;
  /** What one run may hold; rows that would hold more are staged. */
  bytes?: number;
  /** What a staged run may hold of logits and of what is computed from them, and of one tensor of attention scores. */
  logitBytes?: number;
  scoreBytes?: number;
}

/** Chooses by the rows; what no row needs is never loaded. */
export function openGradients(options: GradientOptions): GradientSource {
  const { config, parameters, frozen = [], pause, bytes = WHOLE_BYTES } = options;
  const past = pastLength([...parameters, ...frozen]);
  const held = (rows: readonly TrainingRow[]) => runBytes(rows, past, config) <= bytes;
  // The rotary table bounds a run's tokens (an onnxruntime check); one row is never longer.
  const fits = (rows: readonly TrainingRow[]) => tokensOf(rows) <= config.maxPositions && held(rows);
  const opened = new Map<typeof whole, Promise<GradientRun>>();
  const runOf = (rows: readonly TrainingRow[]) => {
    const open = held(rows) ? whole : staged;
    const run = opened.get(open) ?? open(options);
    opened.set(open, run);
    return run;
  };
  return {
    fits,
    run: async (parts, scale) => {
      const sum: Gradient = {
        loss: 0,
        gradients: parameters.map(({ data }) => new Float32Array(data.length)),
      };
      for (const rows of parts) {
        await pause?.();
        const { loss, gradients } = await (await runOf(rows)).run(rows, scale);
        sum.loss += loss;
        for (const [index, more] of gradients.entries()) addTo(sum.gradients[index]!, more);
      }
      return sum;
    },
    close: async () => {
      for (const run of opened.values()) await (await run).close();
    },
  };
}

/** One run for everything. */
export async function whole(options: GradientOptions): Promise<GradientRun> {
  const { runtime, compiled, config, loss, method, parameters, frozen = [] } = options;
  const inputs = [...parameters, ...frozen];
  const graph = compiled.compile(trainingGraph(inOwnBasis(loss, compiled.valueScales), method));
  const session = await runtime.load(graph, compiled.weights, {
    // Packed codes cost 0.2 GB and save an eighth of a step; packed floats 0.8 GB and a twentieth.
    packed: compiled.precision === "int8",
    memory: "kept",
  });
  const names = parameters.map(({ input }) => `d.${input}`);
  return {
    run: async (rows, scale) => {
      const found = await session.run(trainingFeeds(rows, inputs, config, scale), ["loss", ...names]);
      return {
        loss: Number(found.loss!.data[0]),
        gradients: names.map(name => found[name]!.data as Float32Array),
      };
    },
    close: () => session.close(),
  };
}

/** A run a layer. */
export async function staged(options: GradientOptions): Promise<GradientRun> {
  const { loss, method, config, compiled } = options;
  const segments = segmentsOf(loss, method, config, compiled.compile);
  return new StagedGradient({ ...options, segments });
}
