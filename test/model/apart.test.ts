/** Compiling in a process of its own: everything is on disk afterwards, and what is wrong is the caller's to tell. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileApart } from "../../src/compile/apart.ts";
import { type OpenedSource, openSource } from "../../src/compile/open.ts";
import { areCompiled, compileVariants } from "../../src/compile/variants.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";

let backbone: TinyBackbone;
let cache: string;
let opened: OpenedSource;
const settings = () =>
  ({ backbone: backbone.path, cache, runtime: "onnx", threads: 1, precision: "auto" }) as const;

beforeAll(async () => {
  backbone = await tinyBackbone("llama", true);
  cache = await mkdtemp(join(tmpdir(), "foreword-apart-"));
  opened = await openSource(settings());
});
afterAll(async () => {
  await opened.source.close();
  await backbone.remove();
  await rm(cache, { recursive: true, force: true });
});

const compiled = () => areCompiled(opened.source, opened.options, () => {});

/** The phases that were heard of. */
async function apart(path: string, worth?: number): Promise<string[]> {
  const phases: string[] = [];
  const { source, options } = opened;
  const place = { ...settings(), backbone: path };
  await compileApart(
    place,
    source,
    options,
    phase => phases.push(phase),
    worth === undefined ? {} : { worth },
  );
  return [...new Set(phases)].filter(phase => !phase.includes("fingerprint"));
}

test("a small backbone is left to the caller", async () => {
  expect(await apart(backbone.path)).toEqual([]);
  expect(await compiled()).toBe(false);
});

test("a process that cannot read the backbone ends, and nothing is thrown or left", async () => {
  const broken = join(cache, "broken.gguf");
  await writeFile(broken, "GGUF?");
  expect(await apart(broken, 0)).toEqual([]);
  expect(await compiled()).toBe(false);
});

test("what was missing is compiled, and the caller only reads it", async () => {
  expect(await apart(backbone.path, 0)).toEqual([
    "compiling the backbone (once)",
    "quantising the backbone (once)",
    "comparing int8 with fp32 (once)",
  ]);
  expect(await compiled()).toBe(true);
  const phases: string[] = [];
  const { chosen, check } = await compileVariants(opened.source, opened.options, phase => phases.push(phase));
  expect(phases).toEqual([]);
  expect([chosen.precision, check]).not.toContain(null);
  expect(await apart(backbone.path, 0), "a second time").toEqual([]);
});

test.each([
  ["were cut off while they were written", ""],
  ["are no numbers", '{"text_loss":{"fp32":2,"int8":null},"gradient_cosine":1}'],
])("figures that %s are measured again", async (_, written) => {
  const { check } = await compileVariants(opened.source, opened.options, () => {});
  const names = await readdir(cache, { recursive: true });
  const figures = names.filter(name => /check-[0-9a-f]+\.json$/.test(name));
  expect(figures).toHaveLength(1);
  await writeFile(join(cache, figures[0]!), written);
  expect((await compileVariants(opened.source, opened.options, () => {})).check).toEqual(check);
  expect(await readdir(cache, { recursive: true })).toEqual(names);
});
