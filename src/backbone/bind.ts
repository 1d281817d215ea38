import { printDims, sameDims } from "../tensor/tensor.ts";
import { type BackboneTensor, backboneTensors } from "./names.ts";
import { badBackbone } from "./settings.ts";
import type { BackboneConfig } from "./source.ts";

/** A tensor that the architecture needs, and the one in the file that is it. */
export interface BoundTensor extends BackboneTensor {
  stored: string;
}

/** What a format says about its tensors. */
export interface StoredTensors {
  /** File or directory, for errors. */
  where: string;
  /** The file's own name, by the name that `nameOf` gives a tensor. */
  names: ReadonlyMap<string, string>;
  nameOf(tensor: BackboneTensor): string;
  /** Row-major shape of a tensor of the file. */
  dimsOf(stored: string): readonly number[];
  /** The shape under which this format stores a tensor. */
  storedDims(tensor: BackboneTensor): readonly number[];
  /** Tensors that may be there and are not needed. */
  ignored(name: string): boolean;
}

/**
 * Finds every tensor of the architecture among the stored ones and checks its shape. One that is missing, has another
 * shape or is left over is refused: each would mean another architecture than the one that will be computed.
 */
export function bindTensors(config: BackboneConfig, stored: StoredTensors): Map<string, BoundTensor> {
  const { where, names } = stored;
  const bound = new Map<string, BoundTensor>();
  const left = new Set(names.keys());
  for (const tensor of backboneTensors(config)) {
    const name = stored.nameOf(tensor);
    const inFile = names.get(name);
    if (inFile === undefined) return badBackbone(`${where} has no tensor ${name}: the file is not complete.`);
    left.delete(name);
    const [is, expected] = [stored.dimsOf(inFile), stored.storedDims(tensor)];
    if (!sameDims(is, expected)) {
      badBackbone(
        `${where}: tensor ${name} is ${printDims(is)}, the configuration says ${printDims(expected)}.`,
      );
    }
    bound.set(tensor.name, { ...tensor, stored: inFile });
  }
  for (const name of left) {
    if (stored.ignored(name)) continue;
    badBackbone(
      `${where}: tensor ${name} has no place in ${config.architecture}, so it is another architecture.`,
    );
  }
  return bound;
}
