/** Adapters of the real PEFT are served as it computes them, and what is exported says the same in PEFT. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensurePython, PythonPeer } from "../../bench/peers/python.ts";
import reference from "../fixtures/peft/reference.json" with { type: "json" };
import { kinds, type Served, serveBackbone } from "../http/adapter-server.ts";
import { formOf, readAdapter } from "../support/adapter.ts";
import { describeBackbone } from "../support/backbone.ts";

const { text, target } = reference;
let peer: PythonPeer;
let scratch: string;

async function ask<Answer>(call: string, values: object = {}): Promise<Answer> {
  const { answer } = await peer.ask<{ answer: Answer }>({ call, ...values });
  return answer;
}

beforeAll(async () => {
  // PEFT, transformers and torch, fetched once.
  ensurePython("requirements-training.txt");
  peer = new PythonPeer("../../test/peft/peer.py", [], 2);
  scratch = await mkdtemp(join(tmpdir(), "foreword-peft-"));
}, 30 * 60_000);
afterAll(async () => {
  peer.stop();
  await rm(scratch, { recursive: true, force: true });
});

/** The text that the adapter's README shows, filled and cut as the README says. */
function texts(readme: string, input: string): string[] {
  const shown = readme.split("``````\n")[1]!.slice(0, -1);
  return shown
    .split(/(\s*\{\{ input \}\})/)
    .map(part => part.replace("{{ input }}", input))
    .filter(part => part !== "");
}

describe.each([
  ["llama", false],
  ["llama", true],
  ["llama3-rope", true],
  ["mistral", true],
  ["qwen2", false],
  ["qwen3", false],
  ["gpt2", false],
] as const)("%s, BOS: %s", (name, bos) => {
  let folder: string;
  let served: Served;
  beforeAll(async () => {
    folder = join(scratch, `${name}-${bos}`);
    await ask("backbone", { name, folder, bos });
    served = await serveBackbone(folder);
  });
  afterAll(() => served?.close());
  both(() => ({ folder, served, name }));
});

/** Both directions. */
function both(given: () => { folder: string; served: Served; name: string }): void {
  test("every kind of adapter comes in", async () => {
    const { folder, served, name } = given();
    for (const { adapter, task } of await ask<{ adapter: string; task: number | null }[]>("adapters")) {
      const made = join(scratch, name, adapter);
      await ask("make", { folder, adapter, target: made, name: `tiny/${name}` });
      const version = await served.add(formOf({ ...readAdapter(made), task_index: task }));
      const wanted = await ask<number>("log_p", { folder, adapter: made, texts: [text], target, task });
      const found = await served.logP(version);
      expect(Math.abs(found - wanted), `${adapter}: ${found}, PEFT ${wanted}`).toBeLessThan(1e-3);
    }
  });

  test.each(kinds)("a %s prompt goes out", async kind => {
    const { folder, served, name } = given();
    const backbone = await served.server.backbone();
    const version = await served.addKind(kind);
    const types =
      kind === "soft" && backbone.bos === null ? ["PREFIX_TUNING", "PROMPT_TUNING"] : ["PREFIX_TUNING"];
    for (const type of types) {
      const adapter = join(scratch, name, `${kind}-${type}`);
      await mkdir(adapter, { recursive: true });
      const exported = await served.adapterOf(version, `&peft_type=${type}`);
      for (const [file, content] of Object.entries(exported)) await writeFile(join(adapter, file), content);
      const behind = texts(exported["README.md"].toString(), text);
      const asked = { folder, adapter, texts: behind, target, special: false };
      const [found, wanted] = [await ask<number>("log_p", asked), await served.logP(version)];
      expect(Math.abs(found - wanted), `${type}: PEFT ${found}, ${wanted}`).toBeLessThan(1e-3);
    }
  });
}

// Three minutes more, so by hand: FOREWORD_PEFT_SMOLLM2=1 npm run test:peft
if (process.env.FOREWORD_PEFT_SMOLLM2)
  describeBackbone("SmolLM2-135M", path => {
    let folder: string;
    let served: Served;
    beforeAll(async () => {
      folder = join(scratch, "smollm2");
      await ask("gguf", { path, folder });
      served = await serveBackbone(path);
    });
    afterAll(() => served?.close());
    both(() => ({ folder, served, name: "smollm2" }));
  });
