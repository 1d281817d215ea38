/**
 * Training on top of another prompt: its keys and values stand before all that is trained, and nothing changes them.
 * They are the front of the past that rows attend to; what is trained of it is the end.
 */
import type { BackboneConfig } from "../backbone/source.ts";
import { scaleValues } from "../compile/basis.ts";
import type { KvBlock } from "../engine/kv.ts";
import { PLATFORM } from "../prompt/stack.ts";
import type { Parameter } from "./batches.ts";
import type { Bench } from "./begin.ts";
import { type GradientOptions, type GradientSource, openGradients, type Variant } from "./gradients.ts";
import { prefixFrom } from "./start.ts";

/** Keys and values of what the new prompt stands on, as the variant that answers has them; null where it is nothing. */
export const baseOf = async (
  { core }: Pick<Bench, "core">,
  base: Uint8Array | null,
): Promise<KvBlock | null> => base && core.prefix({ template: PLATFORM, parameters: base });

/** What one variant of the backbone computed, in another one's basis. */
export function inVariant(block: KvBlock, from: Scaled, to: Scaled, config: BackboneConfig): KvBlock {
  if (from.valueScales === to.valueScales) return block;
  const value = prefixFrom(block, config, from.valueScales)
    .filter(({ input }) => input.startsWith("past_value."))
    .map(({ data }, layer) =>
      to.valueScales ? scaleValues(data, to.valueScales[layer]!, config, "into the variant") : data,
    );
  return { ...block, value };
}

type Scaled = Pick<Variant, "valueScales">;

/** Gradients for rows behind a base and a prefix, or behind a base alone. */
export function basedGradients(base: KvBlock | null, options: GradientOptions): GradientSource {
  if (base === null) return openGradients(options);
  const { method, config, compiled, parameters } = options;
  const frozen = prefixFrom(base, config, compiled.valueScales);
  if (method === "soft") return openGradients({ ...options, frozen });
  const whole = parameters.map((own, index) => ({ ...own, ...behind(frozen[index]!, own) }));
  const rows = openGradients({ ...options, parameters: whole });
  return {
    fits: rows.fits,
    run: async (parts, scale) => {
      for (const [index, own] of parameters.entries()) ends(whole[index]!, own, config, "written");
      const { loss, gradients } = await rows.run(parts, scale);
      const mine = parameters.map((own, index) => {
        const part = { ...own, data: new Float32Array(own.data.length) };
        ends({ ...whole[index]!, data: gradients[index]! }, part, config, "read");
        return part.data;
      });
      return { loss, gradients: mine };
    },
    close: rows.close,
  };
}

/** Room for both, the base's part filled in: [1, kvHeads, base + own, headDim]. */
function behind(base: Parameter, own: Parameter): Pick<Parameter, "dims" | "data"> {
  const [, kvHeads, length, headDim] = base.dims as [number, number, number, number];
  const dims = own.dims.with(2, length + own.dims[2]!);
  const data = new Float32Array(kvHeads * dims[2]! * headDim);
  for (let head = 0; head < kvHeads; head++)
    data.set(
      base.data.subarray(head * length * headDim, (head + 1) * length * headDim),
      head * dims[2]! * headDim,
    );
  return { dims, data };
}

/** The last positions of every head of `whole`, which are `own`: written from it, or read into it. */
function ends(
  whole: Parameter,
  own: Parameter,
  { kvHeads, headDim }: BackboneConfig,
  way: "written" | "read",
): void {
  const [all, mine] = [whole.dims[2]! * headDim, own.dims[2]! * headDim];
  for (let head = 0; head < kvHeads; head++) {
    const end = whole.data.subarray((head + 1) * all - mine, (head + 1) * all);
    const part = own.data.subarray(head * mine, (head + 1) * mine);
    if (way === "written") end.set(part);
    else part.set(end);
  }
}
