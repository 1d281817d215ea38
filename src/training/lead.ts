/**
 * Virtual tokens before a template's first field are the same for every row of a step, and nothing behind them reaches
 * them: so they are computed once a step, as a prefix is once a prompt, not once a row. Their keys and values are what
 * the rows' gradient is taken with respect to; its way on to the embeddings is a vector-Jacobian product of its own.
 */
import { gradient } from "../autodiff/gradient.ts";
import { float32 } from "../backbone/feeds.ts";
import type { BackboneConfig } from "../backbone/source.ts";
import type { KvBlock } from "../engine/kv.ts";
import { cut } from "../graph/cut.ts";
import type { TextCodec } from "../prompt/codec.ts";
import { layoutPrefix, layoutWritten, positions } from "../prompt/layout.ts";
import { basedGradients } from "./based.ts";
import { type Parameter, trainingFeeds } from "./batches.ts";
import { runBytes, WHOLE_BYTES } from "./bytes.ts";
import type { GradientOptions, GradientSource } from "./gradients.ts";
import type { Plan } from "./plan.ts";
import type { TrainingRow } from "./rows.ts";
import { ofOneRow } from "./segments.ts";
import { GraphSessions } from "./sessions.ts";
import { prefixFrom } from "./start.ts";

/** What the lead's way back may hold, while the rows' run keeps its own memory. */
const LEAD_BYTES = WHOLE_BYTES / 2;

/**
 * What stands before the first field, as a row; behind a base it has no BOS. Null if it can't be computed apart: a slot
 * stands behind the field, or the row is too long.
 */
export function leadOf(
  { method, template, softLengths }: Pick<Plan, "method" | "template" | "softLengths">,
  codec: TextCodec,
  config: BackboneConfig,
  base: KvBlock | null = null,
): TrainingRow | null {
  if (method !== "soft") return null;
  const mine = (base ? layoutWritten : layoutPrefix)(template, codec, softLengths);
  const segments = mine.filter(each => positions([each]) > 0);
  if (segments.filter(each => "soft" in each).length < softLengths.length) return null;
  const row = { segments, length: positions(segments), decisions: [], next: [] };
  return runBytes([row], base?.length ?? 0, config) <= LEAD_BYTES ? row : null;
}

/** Gradients for rows laid out behind a base and what leads them, where there is either. */
export const gradientsBehind = (
  base: KvBlock | null,
  lead: TrainingRow | null,
  options: GradientOptions,
): GradientSource => (lead ? ledGradients(base, lead, options) : basedGradients(base, options));

/** With respect to `virtual` [slots, hidden]. */
function ledGradients(base: KvBlock | null, lead: TrainingRow, options: GradientOptions): GradientSource {
  const { config, loss, parameters } = options;
  const past = pastOf(lead.length, config);
  // Keys and values are never stored: they stay as the variant has them.
  const rows = basedGradients(base, {
    ...options,
    compiled: { ...options.compiled, valueScales: null },
    method: "prefix",
    parameters: past,
  });
  const before = base ? prefixFrom(base, config, null) : [];
  const caches = past.map(({ input }) => input.replace("past_", ""));
  const forward = cut(ofOneRow(loss), {
    name: "lead",
    inputs: {},
    outputs: Object.fromEntries(caches.map(name => [name, name])),
  });
  const of = Object.fromEntries(caches.map(name => [name, `d.${name}`]));
  const { compile } = options.compiled;
  const parts = { forward: compile(forward), back: compile(gradient(forward, { of, wrt: ["virtual"] })) };
  const sessions = new GraphSessions({ ...options, memory: "kept" });
  return {
    fits: rows.fits,
    run: async (batches, scale) => {
      const feeds = trainingFeeds([lead], [...parameters, ...before], config, 1);
      const made = await sessions.run(parts.forward, feeds);
      for (const [index, name] of caches.entries()) past[index]!.data.set(made[name]!.data as Float32Array);
      const { loss, gradients } = await rows.run(batches, scale);
      const cotangents = caches.map((name, index) => [
        `d.${name}`,
        float32(past[index]!.dims, gradients[index]!),
      ]);
      const found = await sessions.run(parts.back, { ...feeds, ...Object.fromEntries(cotangents) });
      return { loss, gradients: [found["d.virtual"]!.data as Float32Array] };
    },
    close: async () => {
      await rows.close();
      await sessions.close();
    },
  };
}

/** Room for the lead's keys and values: [1, kvHeads, length, headDim]. */
function pastOf(length: number, { layers, kvHeads, headDim }: BackboneConfig): Parameter[] {
  const dims = [1, kvHeads, length, headDim];
  return Array.from({ length: layers }, (_, layer) =>
    ["past_key", "past_value"].map(name => ({
      input: `${name}.${layer}`,
      dims,
      data: new Float32Array(kvHeads * length * headDim),
    })),
  ).flat();
}
