import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { moveKeys } from "../../src/backbone/architectures/rotary.ts";
import { keepingGraph } from "../../src/backbone/kept.ts";
import { openBackbone } from "../../src/backbone/source.ts";
import { compileBackbone } from "../../src/compile/backbone.ts";
import { Batch } from "../../src/engine/batch.ts";
import { emptyBlock, joinBlocks } from "../../src/engine/kv.ts";
import { argmax, logSumExp } from "../../src/engine/sampler.ts";
import type { PrefillWork } from "../../src/engine/work.ts";
import { createRuntime } from "../../src/runtime/create.ts";

/** Figures made with transformers (torch, fp32) for random checkpoints of each architecture. */
interface Reference {
  ids: number[];
  logits_last: number[];
  log_p_of_next: number[];
}

const TOLERANCE = 1e-4;
const names = ["llama", "llama3-rope", "mistral", "qwen2", "qwen3", "gpt2"];
let cache: string;

beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), "foreword-architectures-"));
});
afterAll(() => rm(cache, { recursive: true, force: true }));

const largestError = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).toBe(b.length);
  return Math.max(...Array.from(a, (value, index) => Math.abs(value - b[index]!)));
};

const work = (part: Partial<PrefillWork>): PrefillWork => ({
  past: [],
  segments: [],
  branches: [],
  scored: [],
  sampled: [],
  keep: false,
  ...part,
});

describe.each(["onnx", "tfjs"] as const)("%s", runtimeName => {
  describe.each(names)("%s", name => {
    const folder = new URL(`../fixtures/reference/tiny/${name}/`, import.meta.url).pathname;
    let reference: Reference;
    let batch: Batch;
    let config: Awaited<ReturnType<typeof openBackbone>>["config"];
    let close: () => Promise<void>;

    beforeAll(async () => {
      reference = JSON.parse(await readFile(join(folder, "reference.json"), "utf8"));
      const source = await openBackbone(folder);
      config = source.config;
      const { graph, weights } = await compileBackbone(source, cache, () => {});
      const session = await (await createRuntime(runtimeName, 2)).load(
        keepingGraph(graph, config.layers),
        weights,
      );
      batch = new Batch(session, config);
      close = async () => {
        await session.close();
        await source.close();
      };
    });
    afterAll(() => close?.());

    const logProbabilities = (logits: readonly Float32Array[], next: readonly number[]) =>
      next.map((token, index) => logits[index]![token]! - logSumExp(logits[index]!));

    test("log P of every next token is transformers'", async () => {
      const { ids } = reference;
      const [result] = await batch.prefill([work({ segments: [{ ids }], sampled: [...ids.keys()] })]);
      expect(largestError(result!.logits.at(-1)!, reference.logits_last)).toBeLessThan(TOLERANCE * 5);
      expect(
        largestError(logProbabilities(result!.logits, ids.slice(1)), reference.log_p_of_next),
      ).toBeLessThan(TOLERANCE);
    });

    test("moved keys are those that the same tokens have further on", async () => {
      const { ids } = reference;
      const [alone, before] = await batch.prefill([
        work({ segments: [{ ids: ids.slice(5, 9) }], keep: true }),
        work({ segments: [{ ids: ids.slice(0, 5) }], keep: true }),
      ]);
      const [behind] = await batch.prefill([
        work({ past: [before!.kept!], segments: [{ ids: ids.slice(5, 9) }], keep: true }),
      ]);
      // The first layer's keys depend on a token and its position alone.
      const there = behind!.kept!.key[0]!;
      const here = alone!.kept!.key[0]!;
      const rotary = config.architecture !== "gpt2";
      if (rotary) expect(largestError(moveKeys(here, 5, config), there)).toBeLessThan(TOLERANCE);
      else expect(moveKeys(here, 5, config)).toBe(here);
      expect(largestError(moveKeys(moveKeys(there, -5, config), 5, config), there)).toBeLessThan(TOLERANCE);
    });

    test("a KV prefix answers as the whole sequence does, in a batch with other rows", async () => {
      const { ids } = reference;
      const [prefix] = await batch.prefill([work({ segments: [{ ids: ids.slice(0, 5) }], keep: true })]);
      const rest = ids.slice(5);
      const [, result, sameAlone] = await batch.prefill([
        work({
          past: [emptyBlock(config)],
          segments: [{ ids: [9, 1, 4, 4, 60, 2, 7, 31, 8, 8, 8] }],
          scored: [{ end: -1, candidates: [3, 5] }],
        }),
        work({ past: [prefix!.kept!], segments: [{ ids: rest }], sampled: [...rest.keys()] }),
        work({
          past: [prefix!.kept!],
          segments: [{ ids: rest.slice(0, 2) }],
          branches: [
            [rest[2]!, rest[3]!],
            [50, 51, 52],
          ],
          sampled: [1, 3, 6],
        }),
      ]);
      expect(
        largestError(logProbabilities(result!.logits, rest.slice(1)), reference.log_p_of_next.slice(5)),
      ).toBeLessThan(TOLERANCE);
      // A branch sees trunk and prefix, not the other branch.
      const branch = logProbabilities(sameAlone!.logits.slice(0, 2), [rest[2]!, rest[4]!]);
      expect(largestError(branch, [reference.log_p_of_next[6]!, reference.log_p_of_next[8]!])).toBeLessThan(
        TOLERANCE,
      );
    });

    test("decoding token by token over a joined past gives the same", async () => {
      const { DecodePool } = await import("../../src/engine/kv.ts");
      const { ids } = reference;
      const [a] = await batch.prefill([work({ segments: [{ ids: ids.slice(0, 3) }], keep: true })]);
      const [b] = await batch.prefill([
        work({ past: [a!.kept!], segments: [{ ids: ids.slice(3, 6) }], keep: true }),
      ]);
      const pool = new DecodePool(config);
      pool.admit([joinBlocks([a!.kept!, b!.kept!], config)]);
      pool.admit([a!.kept!]);
      const found: number[] = [];
      for (let at = 6; at < ids.length - 1; at++) {
        const [next] = await batch.decode(pool, [ids[at]!, ids[at - 3]!], true);
        const logits = next!.logits!;
        expect(next!.best).toBe(argmax(logits));
        found.push(logits[ids[at + 1]!]! - logSumExp(logits));
      }
      expect(largestError(found, reference.log_p_of_next.slice(6))).toBeLessThan(TOLERANCE);
    });
  });
});
