import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSafetensors, type TensorToWrite, writeSafetensors } from "../../src/tensor/safetensors.ts";
import { adapters, formOf, readAdapter } from "../support/adapter.ts";
import { type Served, serveTiny } from "./adapter-server.ts";
import { expectProblem } from "./server.ts";

describe("adapters of PEFT that do not fit are refused", () => {
  let served: Served;
  beforeAll(async () => {
    served = await serveTiny("llama", false);
  });
  afterAll(() => served?.close());

  const good = (adapter: string) => readAdapter(join(adapters, "llama", adapter));
  type Parts = Parameters<typeof formOf>[0];
  const send = (parts: Parts) => served.server.post("/tasks/next/prompts", formOf(parts));

  /** The adapter with other numbers in its configuration. */
  const configured = (adapter: string, change: object): Parts => {
    const files = good(adapter);
    const config = { ...JSON.parse(files["adapter_config.json"].toString()), ...change };
    return { ...files, "adapter_config.json": Buffer.from(JSON.stringify(config)) };
  };
  /** The adapter with other tensors. */
  const withTensors = (adapter: string, change: (tensors: TensorToWrite[]) => TensorToWrite[]): Parts => {
    const files = good(adapter);
    const file = parseSafetensors(files["adapter_model.safetensors"]);
    const tensors = [...file.tensors].map(([name, { dims }]) => ({ name, dims, data: file.read(name) }));
    return { ...files, "adapter_model.safetensors": writeSafetensors(change(tensors)) };
  };
  /** The adapter with its one tensor changed. */
  const changed = (adapter: string, change: (tensor: TensorToWrite) => Partial<TensorToWrite>): Parts =>
    withTensors(adapter, ([only]) => [{ ...only!, ...change(only!) }]);
  const spoilt = (value: number) => changed("prefix", ({ data }) => ({ data: data.with(7, value) }));
  const instead = (content: string) => ({
    ...good("prompt"),
    "adapter_model.safetensors": Buffer.from(content, "latin1"),
  });

  test.each<[string, string, object, string]>([
    ["LoRA", "prompt", { peft_type: "LORA" }, "peft_type"],
    ["no type", "prompt", { peft_type: undefined }, "peft_type"],
    ["a classifier's", "prompt", { task_type: "SEQ_CLS" }, "task_type"],
    ["an encoder and decoder's", "prompt", { num_transformer_submodules: 2 }, "num_transformer_submodules"],
    ["with weights of the model", "prompt", { modules_to_save: ["lm_head"] }, "modules_to_save"],
    ["an encoder still to run", "p-tuning-mlp", { inference_mode: false }, "inference_mode"],
    ["a projection still to run", "prefix-projected", { inference_mode: false }, "inference_mode"],
    ["no number of tokens", "prompt", { num_virtual_tokens: undefined }, "num_virtual_tokens"],
    ["half a token", "prompt", { num_virtual_tokens: 4.5 }, "num_virtual_tokens"],
    ["a width in words", "prompt", { token_dim: "32" }, "token_dim"],
  ])("a configuration: %s", async (_, adapter, change, field) => {
    expectProblem(await send(configured(adapter, change)), 422, "validation", { field });
  });

  test.each<[string, string, object, string]>([
    ["layers", "prefix", { num_layers: 24 }, "num_layers"],
    ["width", "prompt", { token_dim: 64 }, "token_dim"],
    ["heads", "prefix", { num_attention_heads: 4, token_dim: 32 }, "num_attention_heads"],
  ])("another model's %s", async (_, adapter, change, field) => {
    expectProblem(await send(configured(adapter, change)), 409, "backbone_mismatch", {
      field,
      prompt: "tiny/llama",
      detail: expect.stringContaining("tiny/llama"),
    });
  });

  const embeddings = { tensor: "prompt_embeddings" };
  const remedy = { detail: expect.stringContaining("safe_serialization") };
  const bias = { name: "mlp_head.0.bias", dims: [1], data: new Float32Array(1) };
  test.each<[string, () => Parts, object]>([
    ["more tokens than rows", () => configured("prompt", { num_virtual_tokens: 6 }), embeddings],
    ["rows of another width", () => changed("prompt", () => ({ dims: [10, 16] })), embeddings],
    ["another shape", () => changed("prefix", () => ({ dims: [5, 3, 32] })), embeddings],
    ["NaN", () => spoilt(Number.NaN), { ...embeddings, index: [0, 7] }],
    ["infinity", () => spoilt(-Infinity), embeddings],
    [
      "a missing tensor",
      () => ({ ...withTensors("multitask", tensors => tensors.slice(1)), task_index: 0 }),
      { tensor: "prefix_task_cols" },
    ],
    ["an encoder's", () => withTensors("prompt", tensors => [...tensors, bias]), { tensor: bias.name }],
    ["fewer slots than rows", () => ({ ...good("prompt"), template: "{{ soft(4) }}{{ input }}" }), {}],
    ["cut off", () => instead("\x50\x01\0\0\0\0\0\0{"), {}],
    ["a pickle", () => instead("PK\x03\x04\0\0\x08\x08archive/data.pkl"), remedy],
    ["an old pickle", () => instead("\x80\x02}q\x00X\x10\x00\x00\x00"), remedy],
    [
      "a pickle by its name",
      () => ({ ...good("prompt"), "adapter_model.safetensors": null, "adapter_model.bin": Buffer.from("x") }),
      remedy,
    ],
  ])("tensors: %s", async (_, parts, more) => {
    expectProblem(await send(parts()), 422, "bad_tensor", more);
  });

  const [config, tensors] = ["adapter_config.json", "adapter_model.safetensors"] as const;
  test.each<[string, () => Parts, string]>([
    ["no task index", () => good("multitask"), "task_index"],
    ["a task too far", () => ({ ...good("multitask"), task_index: 3 }), "task_index"],
    ["a task before the first", () => ({ ...good("multitask"), task_index: -1 }), "task_index"],
    ["a task of one", () => ({ ...good("prompt"), task_index: 0 }), "task_index"],
    ["slots for a prefix", () => ({ ...good("prefix"), template: "{{ soft(5) }}{{ input }}" }), "template"],
    ["no configuration", () => ({ ...good("prompt"), [config]: null }), config],
    ["one that is no JSON", () => ({ ...good("prompt"), [config]: Buffer.from("{") }), config],
    ["no tensors", () => ({ ...good("prompt"), [tensors]: null }), tensors],
    ["a part that is not known", () => ({ ...good("prompt"), tokenizer: "x" }), "tokenizer"],
    ["an empty form", () => ({}), config],
  ])("a form: %s", async (_, parts, field) => {
    expectProblem(await send(parts()), 422, "validation", { field });
  });

  test("too long, too large, no form at all", async () => {
    const dims = [127, 32];
    const long = changed("prompt", () => ({ dims, data: new Float32Array(127 * 32) }));
    const file = configured("prompt", { num_virtual_tokens: 127 })[config]!;
    expectProblem(await send({ ...long, [config]: file }), 422, "input_too_long", { over: 1 });
    const large = { ...good("prompt"), [tensors]: new Uint8Array(100_001) };
    expectProblem(await send(large), 413, "body_too_large", { limit: 100_000 });
    // Sent in chunks, a form does not say how long it is; its parts count together.
    const { headers, body } = new Response(
      formOf({
        "adapter_config.json": Buffer.concat([
          good("prompt")["adapter_config.json"],
          Buffer.alloc(60_000, " "),
        ]),
        "adapter_model.safetensors": Buffer.alloc(60_000),
      }),
    );
    const request = { method: "POST", headers, body, duplex: "half" } as const;
    const reply = await fetch(`${served.server.url}/tasks/next/prompts`, request);
    const answer = { status: reply.status, headers: reply.headers, body: await reply.json() };
    expectProblem(answer, 413, "body_too_large", { limit: 100_000 });
    const multipart = { "content-type": "multipart/form-data; boundary=x" };
    for (const body of ["", "hello", '--x\r\nContent-Disposition: form-data; name="template"\r\n\r\nx'])
      expectProblem(await served.server.post("/tasks/next/prompts", body, multipart), 422, "validation");
    const unbound = { "content-type": "multipart/form-data" };
    expectProblem(await served.server.post("/tasks/next/prompts", "x", unbound), 422, "validation");
  });

  test("parts are known by their files' names too; a key makes a form count once", async () => {
    const files = good("prompt");
    const form = () => {
      const form = new FormData();
      for (const [name, content] of Object.entries(files))
        form.append("file", new Blob([new Uint8Array(content)]), name);
      return form;
    };
    const key = { "idempotency-key": "the same adapter" };
    const version = await served.add(form(), key);
    expect(await served.add(form(), key)).toBe(version);
    const other = formOf({ ...files, template: "{{ input }}!" });
    expectProblem(await served.server.post("/tasks/next/prompts", other, key), 409, "idempotency_conflict");
  });

  test("whatever bytes come, the answer is a problem or a prompt", async () => {
    const files = good("multitask");
    const edit = fc.tuple(fc.constantFrom(config, tensors), fc.nat(1900), fc.nat(255));
    const edits = fc.array(edit, { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(edits, async edits => {
        const copy = { [config]: Buffer.from(files[config]), [tensors]: Buffer.from(files[tensors]) };
        for (const [name, at, value] of edits) copy[name][at % copy[name].length] = value;
        const { status, body } = await send({ ...copy, task_index: 1 });
        expect([201, 409, 422], JSON.stringify(body)).toContain(status);
      }),
      { numRuns: 150, seed: 5 },
    );
    expect((await served.server.get("/readyz")).status).toBe(200);
  });
});
