import { printDims, sameDims } from "../tensor/tensor.ts";
import { type BackboneTensor, backboneTensors } from "./names.ts";
import { badBackbone } from "./settings.ts";
import type { BackboneConfig } from "./source.ts";

/** A tensor that the architecture needs, and the one in the file that is it. */
export interface BoundTensor extends BackboneTensor {
  stored: string;
}

/**
 * Finds every tensor of the architecture among the stored ones and checks its shape. One that is missing, has another
 * shape or is left over is refused: each would mean another architecture than the one that will be computed.
 *
 * @param stored the file's own name, by the name that `nameOf` gives a tensor
 * @param dimsOf shape of a tensor in the file, row-major
 * @param expectedDims the shape under which the file stores it
 */
export function bindTensors(
  config: BackboneConfig,
  where: string,
  stored: ReadonlyMap<string, string>,
  nameOf: (tensor: BackboneTensor) => string,
  dimsOf: (stored: string) => readonly number[],
  expectedDims: (tensor: BackboneTensor) => readonly number[],
  ignored: (name: string) => boolean,
): Map<string, BoundTensor> {
  const bound = new Map<string, BoundTensor>();
  const left = new Set(stored.keys());
  for (const tensor of backboneTensors(config)) {
    const name = nameOf(tensor);
    const inFile = stored.get(name);
    if (inFile === undefined) return badBackbone(`${where} has no tensor ${name}: the file is not complete.`);
    left.delete(name);
    const [is, expected] = [dimsOf(inFile), expectedDims(tensor)];
    if (!sameDims(is, expected)) {
      badBackbone(
        `${where}: tensor ${name} is ${printDims(is)}, the configuration says ${printDims(expected)}.`,
      );
    }
    bound.set(tensor.name, { ...tensor, stored: inFile });
  }
  for (const name of left) {
    if (ignored(name)) continue;
    badBackbone(
      `${where}: tensor ${name} has no place in ${config.architecture}, so it is another architecture.`,
    );
  }
  return bound;
}
