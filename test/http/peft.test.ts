import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readPromptFile, writePromptFile } from "../../src/prompt/file.ts";
import { parseSafetensors } from "../../src/tensor/safetensors.ts";
import reference from "../fixtures/peft/reference.json" with { type: "json" };
import { adapters, formOf, readAdapter } from "../support/adapter.ts";
import { kinds, type Served, serveTiny } from "./adapter-server.ts";
import { expectProblem, files, promptFile } from "./server.ts";

const { length } = reference;
const octets = { "content-type": promptFile };

describe.each([
  ["llama", false],
  ["llama", true],
  ["qwen3", false],
  ["gpt2", true],
] as const)("adapters of PEFT on a tiny %s, BOS: %s", (name, bos) => {
  let served: Served;
  beforeAll(async () => {
    served = await serveTiny(name, bos);
  });
  afterAll(() => served?.close());

  const here = reference.adapters.filter(each => each.backbone === name && each.bos === bos);
  test.each(here)("$adapter comes in: log P is PEFT's", async ({ adapter, task, log_p }) => {
    const form = formOf({ ...readAdapter(join(adapters, name, adapter)), task_index: task });
    const version = await served.add(form);
    expect(Math.abs((await served.logP(version)) - log_p)).toBeLessThan(1e-3);
    const { body } = await served.server.get(`/tasks/next/prompts/${version}`);
    const soft = !adapter.startsWith("prefix");
    expect(body).toMatchObject({
      kind: soft ? "soft" : "prefix",
      template: `${soft ? `{{ soft(${length}) }}` : ""}${bos ? "<s>" : ""}{{ input }}`,
      recipe: { method: "peft", base_model_name_or_path: `tiny/${name}` },
    });
  });

  test("a template of the caller's own: the slot is put in front, BOS behind it", async () => {
    const files = readAdapter(join(adapters, name, "prompt"));
    const whole = await served.add(formOf(files));
    const split = await served.add(formOf({ ...files, template: "It rained {{ input }}" }));
    expect(await served.logP(split, "all day, and")).toBeCloseTo(await served.logP(whole), 4);
    const { body } = await served.server.get(`/tasks/next/prompts/${split}`);
    expect(body.template).toBe(`{{ soft(${length}) }}${bos ? "<s>" : ""}It rained {{ input }}`);
  });

  test.each(kinds)("a %s prompt goes out as PREFIX_TUNING, and comes back the same", async kind => {
    const before = await served.addKind(kind);
    const adapter = await served.adapterOf(before);
    const config = JSON.parse(adapter["adapter_config.json"].toString());
    const { layers, kv_heads, head_dim } = await served.server.backbone();
    const version = (await served.server.get(`/tasks/next/prompts/${before}`)).body;
    expect(config).toMatchObject({
      peft_type: "PREFIX_TUNING",
      task_type: "CAUSAL_LM",
      num_virtual_tokens: version.length,
      token_dim: kv_heads * head_dim,
      num_attention_heads: kv_heads,
      num_layers: layers,
    });
    const tensors = parseSafetensors(adapter["adapter_model.safetensors"]);
    expect(tensors.tensors.get("prompt_embeddings")).toMatchObject({
      dtype: "F32",
      dims: [version.length, layers * 2 * kv_heads * head_dim],
    });
    const rest = version.template.slice(version.template.indexOf("{{ input"));
    expect(adapter["README.md"].toString()).toContain(rest);
    const { "README.md": readme, ...parts } = adapter;
    const after = await served.add(formOf(parts));
    expect(Math.abs((await served.logP(after)) - (await served.logP(before)))).toBeLessThan(1e-4);
    // What was exported is a prefix: it comes out again in the same numbers.
    const again = await served.adapterOf(after);
    expect(again["adapter_model.safetensors"].equals(adapter["adapter_model.safetensors"])).toBe(true);
  });

  test("PROMPT_TUNING goes out as it came in", async () => {
    const files = readAdapter(join(adapters, name, "prompt"));
    const version = await served.add(formOf(files));
    const { "README.md": readme, ...adapter } = await served.adapterOf(version, "&peft_type=PROMPT_TUNING");
    const [came, went] = [files, adapter].map(each => parseSafetensors(each["adapter_model.safetensors"]));
    expect(went!.read("prompt_embeddings")).toEqual(came!.read("prompt_embeddings"));
    const config = JSON.parse(files["adapter_config.json"].toString());
    const { peft_version, tokenizer_kwargs, ...same } = config;
    expect(JSON.parse(adapter["adapter_config.json"].toString())).toEqual(same);
    expect(await served.logP(await served.add(formOf(adapter)))).toBe(await served.logP(version));
  });

  test("what cannot be expressed is said", async () => {
    const { server } = served;
    const ask = (version: number, type: string) =>
      server.get(`/tasks/next/prompts/${version}?format=peft&peft_type=${type}`);
    const hard = await served.add({ template: "Once. {{ input }}" });
    expectProblem(await ask(hard, "PROMPT_TUNING"), 409, "not_expressible");
    const on = { task: "next", version: hard };
    const from = { task: "next", version: await served.add(files.soft(await server.backbone()), octets) };
    expectProblem(await ask(await served.add({ from, on }), "PROMPT_TUNING"), 409, "not_expressible");
    const backbone = await server.backbone();
    const file = readPromptFile(files.soft(backbone));
    const behind = writePromptFile({ ...file, template: "Once. {{ input }}{{ soft(3) }}" });
    const inside = writePromptFile({ ...file, template: "Once. {{ soft(3) }}{{ input }}" });
    const late = await served.add(behind, octets);
    expectProblem(await ask(late, "PREFIX_TUNING"), 409, "not_expressible");
    expectProblem(await ask(await served.add(inside, octets), "PROMPT_TUNING"), 409, "not_expressible");
    const bare = await served.add({ template: "{{ input }}" });
    const first = await ask(bare, "PREFIX_TUNING");
    if (bos) expect(first.status).toBe(200);
    else expectProblem(first, 409, "not_expressible");
    const leading = await ask(await served.add(files.soft(backbone), octets), "PROMPT_TUNING");
    if (bos) expectProblem(leading, 409, "not_expressible", { detail: expect.stringContaining("<s>") });
    else expect(leading.status).toBe(200);
  });
});

test("where int8 answers, the keys and values that go out are fp32's", async () => {
  const [exact, fast] = [
    await serveTiny("llama", true),
    await serveTiny("llama", true, { precision: "int8" }),
  ];
  try {
    expect((await fast.server.backbone()).precision.active).toBe("int8");
    const body = { template: `Once.${" It was a day like any other;".repeat(4)} {{ input }}\nThen:` };
    const [wanted, found] = [
      await exact.adapterOf(await exact.add(body)),
      await fast.adapterOf(await fast.add(body)),
    ].map(each => parseSafetensors(each["adapter_model.safetensors"]).read("prompt_embeddings"));
    expect(found!.length).toBe(wanted!.length);
    const error = Math.max(...found!.map((value, at) => Math.abs(value - wanted![at]!)));
    expect(error).toBeLessThan(1e-5);
  } finally {
    await exact.close();
    await fast.close();
  }
});
