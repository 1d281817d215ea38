/** The engine in one precision, in this process; prompts come from the shelf. */
import { join } from "node:path";
import { type OpenedCore, openCore } from "../../src/engine/open.ts";
import type { Shelf } from "../../src/training/shelf.ts";
import { backboneFile } from "../harness/backbone.ts";
import { dataFolder } from "../harness/product.ts";

export const precisions = ["fp32", "int8"] as const;
export type Precision = (typeof precisions)[number];

export const gateCore = async (precision: Precision, shelf: Shelf): Promise<OpenedCore> =>
  openCore(
    {
      backbone: await backboneFile("gate"),
      cache: join(dataFolder("gate"), "compiled"),
      runtime: "onnx",
      threads: 2,
      precision,
      cacheBytes: 2 ** 28,
      batchTokens: 1024,
      queue: 4096,
    },
    shelf,
    () => {},
  );
