import { createHash } from "node:crypto";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BackboneConfig, type BackboneSource, openBackbone } from "../../../src/backbone/source.ts";
import { ForewordError } from "../../../src/errors.ts";
import { parseSafetensors, writeSafetensors } from "../../../src/tensor/safetensors.ts";
import { describeBackbone } from "../../support/backbone.ts";

const fixtures = fileURLToPath(new URL("../../fixtures", import.meta.url));
const tiny = (name: string) => join(fixtures, "reference/tiny", name);
const gguf = (name: string) => join(fixtures, "gguf", `tiny-${name}.gguf`);

const llama: BackboneConfig = {
  architecture: "llama",
  vocabSize: 96,
  hiddenSize: 32,
  intermediateSize: 48,
  layers: 3,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  maxPositions: 128,
  normEpsilon: 1e-6,
  ropeTheta: 10000,
  ropeScaling: null,
  tiedEmbedding: true,
  attentionBias: false,
  mlpBias: false,
};

/** From the config.json files, by hand. */
const configs: Record<string, BackboneConfig> = {
  llama,
  "llama3-rope": {
    ...llama,
    ropeTheta: 500000,
    ropeScaling: {
      type: "llama3",
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositions: 32,
    },
    tiedEmbedding: false,
  },
  mistral: { ...llama, architecture: "mistral", tiedEmbedding: false },
  qwen2: { ...llama, architecture: "qwen2" },
  qwen3: { ...llama, architecture: "qwen3", headDim: 16 },
  gpt2: {
    ...llama,
    architecture: "gpt2",
    intermediateSize: 128,
    kvHeads: 4,
    normEpsilon: 1e-5,
    attentionBias: true,
    mlpBias: true,
  },
};

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "foreword-backbone-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function using<T>(path: string, body: (source: BackboneSource) => T | Promise<T>): Promise<T> {
  const source = await openBackbone(path);
  try {
    return await body(source);
  } finally {
    await source.close();
  }
}

const stripped = (name: string) => name.replace(/^(model|transformer)\./, "");

describe.each(Object.entries(configs))("Hugging Face directory: %s", (name, config) => {
  test("configuration, and every tensor of the file under its canonical name", async () => {
    const file = parseSafetensors(await readFile(join(tiny(name), "model.safetensors")));
    await using(tiny(name), async source => {
      expect(source.name).toBe(name);
      expect(source.config).toEqual(config);
      const expected = new Map([...file.tensors].map(([stored, { dims }]) => [stripped(stored), [...dims]]));
      expect(new Map(source.tensors)).toEqual(expected);
      for (const stored of file.tensors.keys()) {
        expect(await source.read(stripped(stored)), stored).toEqual(file.read(stored));
      }
      await expect(source.read("nothing")).rejects.toMatchObject({ code: "bad_backbone" });
      expect(await source.tokenizerFiles()).toBeNull();
    });
  });

  test("the fingerprint is the documented digest", async () => {
    const file = parseSafetensors(await readFile(join(tiny(name), "model.safetensors")));
    const hash = createHash("sha256");
    for (const stored of [...file.tensors.keys()].sort()) {
      hash.update(`["${stored}",[${file.tensors.get(stored)!.dims.join(",")}]]\n`);
      hash.update(file.readBytes(stored));
    }
    const seen: number[] = [];
    const fingerprint = await using(tiny(name), source => source.fingerprint(done => seen.push(done)));
    expect(fingerprint).toBe(hash.digest("hex"));
    expect(seen.at(-1)).toBe(1);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  });
});

test("shapes follow each architecture", () =>
  Promise.all([
    using(tiny("qwen2"), ({ tensors }) => {
      expect(tensors.get("layers.2.self_attn.k_proj.bias")).toEqual([16]);
      expect(tensors.has("layers.0.self_attn.o_proj.bias")).toBe(false);
    }),
    using(tiny("qwen3"), ({ tensors }) => {
      expect(tensors.get("layers.0.self_attn.q_proj.weight")).toEqual([64, 32]);
      expect(tensors.get("layers.0.self_attn.q_norm.weight")).toEqual([16]);
    }),
    using(tiny("gpt2"), ({ tensors }) => {
      expect(tensors.get("h.0.attn.c_attn.weight")).toEqual([32, 96]);
      expect(tensors.has("lm_head.weight")).toBe(false);
    }),
    using(tiny("mistral"), ({ tensors }) => expect(tensors.get("lm_head.weight")).toEqual([96, 32])),
  ]));

describe.each(["llama", "llama3-rope", "qwen2", "qwen3", "gpt2"])("GGUF made of %s", name => {
  test("is the same backbone as the Hugging Face directory", async () => {
    await using(gguf(name), source =>
      using(tiny(name), async expected => {
        expect(source.name).toBe(`tiny-${name}`);
        expect(source.config).toEqual(expected.config);
        expect(new Map(source.tensors)).toEqual(new Map(expected.tensors));
        for (const tensor of source.tensors.keys()) {
          expect(await source.read(tensor), tensor).toEqual(await expected.read(tensor));
        }
        expect(await source.fingerprint()).not.toBe(await expected.fingerprint());
        expect(await source.tokenizerFiles()).toBeNull();
      }),
    );
  });
});

/** A copy of a tiny checkpoint with changed files; null removes a setting. */
async function variant(
  from: string,
  change: { config?: Record<string, unknown>; files?: Record<string, string | Uint8Array | null> },
): Promise<string> {
  const path = await mkdtemp(join(directory, "variant-"));
  await cp(tiny(from), path, { recursive: true });
  if (change.config) {
    const config = JSON.parse(await readFile(join(path, "config.json"), "utf8"));
    for (const [key, value] of Object.entries(change.config)) {
      if (value === undefined) delete config[key];
      else config[key] = value;
    }
    await writeFile(join(path, "config.json"), JSON.stringify(config));
  }
  for (const [file, content] of Object.entries(change.files ?? {})) {
    if (content === null) await rm(join(path, file));
    else await writeFile(join(path, file), content);
  }
  return path;
}

describe("what is not implemented is refused, never ignored", () => {
  const rope = (rope_type: string, more = {}) => ({ rope_parameters: { rope_type, factor: 2, ...more } });
  test.each<[string, string, Record<string, unknown>, RegExp]>([
    [
      "another architecture",
      "llama",
      { model_type: "mixtral" },
      /model_type "mixtral" is not implemented; llama, /,
    ],
    ["YaRN", "llama", rope("yarn"), /rope_type "yarn" is not implemented/],
    ["LongRoPE", "llama", rope("longrope"), /"longrope"/],
    [
      "dynamic NTK",
      "qwen2",
      { rope_parameters: undefined, rope_scaling: { type: "dynamic", factor: 2 } },
      /"dynamic"/,
    ],
    ["linear without a factor", "llama", { rope_parameters: { rope_type: "linear" } }, /factor is missing/],
    [
      "a rotary embedding a layer kind",
      "llama",
      { rope_parameters: { full_attention: { rope_theta: 1 } } },
      /each kind/,
    ],
    ["partial rotary", "llama", { partial_rotary_factor: 0.5 }, /partial_rotary_factor 0.5/],
    [
      "partial rotary in rope_parameters",
      "llama",
      rope("default", { partial_rotary_factor: 0.5 }),
      /partial_rotary/,
    ],
    ["an active window", "mistral", { sliding_window: 64 }, /sliding_window 64/],
    [
      "Mistral's window by default",
      "mistral",
      { sliding_window: undefined, max_position_embeddings: 8192 },
      /4096/,
    ],
    [
      "Qwen's window switched on",
      "qwen2",
      { use_sliding_window: true, sliding_window: 64 },
      /sliding_window 64/,
    ],
    [
      "a layer with a window",
      "qwen3",
      { layer_types: ["full_attention", "sliding_attention"] },
      /sliding_attention/,
    ],
    ["another activation", "llama", { hidden_act: "gelu" }, /hidden_act "gelu"/],
    ["GPT-2 with another activation", "gpt2", { activation_function: "relu" }, /activation_function "relu"/],
    [
      "GPT-2 scaled by layer",
      "gpt2",
      { scale_attn_by_inverse_layer_idx: true },
      /scale_attn_by_inverse_layer_idx true/,
    ],
    ["GPT-2 unscaled", "gpt2", { scale_attn_weights: false }, /scale_attn_weights false/],
    ["experts", "llama", { num_local_experts: 8 }, /num_local_experts 8/],
    ["quantised weights", "llama", { quantization_config: { quant_method: "gptq" } }, /quantization_config/],
    [
      "no hidden size",
      "llama",
      { hidden_size: undefined },
      /hidden_size is missing; it must be a positive whole/,
    ],
    ["heads that do not share", "llama", { num_key_value_heads: 3 }, /4 attention heads do not share 3/],
    ["GPT-2's heads that do not fit", "gpt2", { n_head: 5 }, /32 does not divide into 5 heads/],
    ["positions without end", "llama", { max_position_embeddings: 2 ** 40 }, /the limit is 1048576/],
    ["layers without end", "llama", { num_hidden_layers: 1e9 }, /the limit is 1000/],
    [
      "another vocabulary",
      "llama",
      { vocab_size: 97 },
      /embed_tokens.weight is \[96, 32\], .* says \[97, 32\]/,
    ],
    ["more layers than the file has", "llama", { num_hidden_layers: 4 }, /no tensor layers.3/],
    ["fewer layers than the file has", "llama", { num_hidden_layers: 2 }, /layers.2.* has no place in llama/],
    [
      "biases that are not there",
      "llama",
      { attention_bias: true },
      /no tensor layers.0.self_attn.q_proj.bias/,
    ],
    ["biases that are not expected", "qwen2", { model_type: "llama" }, /bias has no place in llama/],
    [
      "an output projection that is not there",
      "llama",
      { tie_word_embeddings: false },
      /no tensor lm_head.weight/,
    ],
  ])("%s", async (_, from, config, reason) => {
    const path = await variant(from, { config });
    await expect(openBackbone(path)).rejects.toThrow(reason);
    await expect(openBackbone(path)).rejects.toMatchObject({ code: "bad_backbone" });
  });

  test.each<[string, Record<string, string | Uint8Array | null>, RegExp]>([
    ["no config.json", { "config.json": null }, /has no config.json/],
    ["a broken config.json", { "config.json": "{" }, /config.json is not JSON/],
    ["a config.json that is a list", { "config.json": "[]" }, /not a JSON object/],
    ["no weights", { "model.safetensors": null }, /model.safetensors cannot be opened \(ENOENT\)/],
    ["broken weights", { "model.safetensors": "none" }, /not a valid safetensors file/],
    [
      "an index that leads elsewhere",
      { "model.safetensors.index.json": '{"weight_map":{"a":"../b.safetensors"}}' },
      /beside it/,
    ],
    ["an empty index", { "model.safetensors.index.json": "{}" }, /weight_map/],
  ])("%s", async (_, files, reason) => {
    const path = await variant("llama", { files });
    await expect(openBackbone(path)).rejects.toThrow(reason);
    await expect(openBackbone(path)).rejects.toMatchObject({ code: "bad_backbone" });
  });

  test("a tensor that is there twice, with the model's name before it and without", async () => {
    const { tensors, read } = parseSafetensors(await readFile(join(tiny("llama"), "model.safetensors")));
    const stored = [...tensors].map(([name, { dims }]) => ({ name, dims, data: read(name) }));
    const norm = stored.find(({ name }) => name === "model.norm.weight")!;
    const again = { ...norm, name: "norm.weight", data: norm.data.map(() => 77) };
    const bytes = writeSafetensors([...stored, again], { format: "pt" });
    const path = await variant("llama", { files: { "model.safetensors": bytes } });
    await expect(openBackbone(path)).rejects.toThrow(/model.norm.weight and norm.weight are one tensor/);
    await expect(openBackbone(path)).rejects.toMatchObject({ code: "bad_backbone" });
  });

  test("a path that is not there, or one part of a model", async () => {
    await expect(openBackbone(join(directory, "nothing"))).rejects.toThrow(/ENOENT/);
    await expect(openBackbone(join(tiny("llama"), "model.safetensors"))).rejects.toThrow(
      /give its directory/,
    );
    await expect(openBackbone(join(tiny("llama"), "config.json"))).rejects.toThrow(
      /does not begin with "GGUF"/,
    );
    await expect(openBackbone(join(fixtures, "gguf/types.gguf"))).rejects.toThrow(
      /"test" is not implemented/,
    );
  });
});

describe("GGUF metadata that change the arithmetic", () => {
  /** The tiny Llama with one more metadata entry of type uint32 (4), float32 (6) or text (8). */
  async function withEntry(key: string, value: number | string, type: 4 | 6 | 8): Promise<string> {
    const bytes = await readFile(gguf("llama"));
    const text = (it: string) => {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(it.length));
      return Buffer.concat([length, Buffer.from(it)]);
    };
    const scalar = Buffer.alloc(4);
    if (type === 4) scalar.writeUInt32LE(Number(value));
    if (type === 6) scalar.writeFloatLE(Number(value));
    const entry = [text(key), Buffer.from([type, 0, 0, 0]), type === 8 ? text(String(value)) : scalar];
    // Padded to whole units of alignment by a second entry, so that the tensors' data only move.
    const added = Buffer.concat(entry);
    const filler = 32 - ((added.length + 8 + 1 + 4 + 8) % 32);
    const padding = [text("x"), Buffer.from([8, 0, 0, 0]), text(" ".repeat(filler))];
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(16) + 2n, 16);
    const path = join(directory, `${key}.gguf`);
    await writeFile(path, Buffer.concat([bytes.subarray(0, 24), added, ...padding, bytes.subarray(24)]));
    return path;
  }

  test.each<[string, number | string, 4 | 6 | 8, RegExp]>([
    ["llama.attention.sliding_window", 64, 4, /attention.sliding_window 64 is not implemented/],
    ["llama.expert_count", 8, 4, /expert_count 8/],
    ["llama.rope.scaling.type", "yarn", 8, /rope.scaling.type "yarn"/],
    ["llama.logit_scale", 0.5, 6, /logit_scale 0.5/],
    ["split.count", 2, 4, /one part of several/],
    ["general.type", "adapter", 8, /holds no model but "adapter"/],
  ])("%s = %s is refused", async (key, value, type, reason) => {
    await expect(openBackbone(await withEntry(key, value, type))).rejects.toThrow(reason);
  });

  test("harmless values, and linear scaling, are read", async () => {
    const path = await withEntry("llama.expert_count", 0, 4);
    await using(path, async source => {
      expect(source.config).toEqual(llama);
      const expected = await using(gguf("llama"), it => it.read("norm.weight"));
      expect(await source.read("norm.weight")).toEqual(expected);
    });
    await using(await withEntry("llama.attention.sliding_window", 128, 4), ({ config }) =>
      expect(config).toEqual(llama),
    );
    for (const key of ["llama.rope.scale_linear", "llama.rope.scaling.factor"]) {
      await using(await withEntry(key, 4, 6), ({ config }) =>
        expect(config.ropeScaling).toEqual({ type: "linear", factor: 4 }),
      );
    }
  });
});

describe("hostile files", () => {
  const orProblem = async (path: string) => {
    try {
      await using(path, async source => {
        for (const name of source.tensors.keys()) await source.read(name);
      });
    } catch (error) {
      expect(error).toBeInstanceOf(ForewordError);
    }
  };

  test.each(["llama3-rope", "gpt2"])("flipped bits in the head of a GGUF of %s", async name => {
    const sound = await readFile(gguf(name));
    const path = join(directory, "flipped.gguf");
    // The metadata come first, where most of the meaning is.
    const at = fc.oneof(fc.nat(700), fc.nat(4000));
    const flips = fc.array(fc.tuple(at, fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(flips, async flipped => {
        const bytes = Buffer.from(sound);
        for (const [at, mask] of flipped) bytes[at]! ^= mask;
        await writeFile(path, bytes);
        await orProblem(path);
      }),
      { numRuns: 300 },
    );
  });

  test.each(["llama3-rope", "mistral", "qwen3", "gpt2"])(
    "any setting in the config.json of %s",
    async name => {
      const path = await variant(name, {});
      const config = JSON.parse(await readFile(join(path, "config.json"), "utf8"));
      const keys = [...Object.keys(config), "rope_scaling", "sliding_window", "rope_theta", "num_experts"];
      const value = fc.oneof(fc.jsonValue(), fc.integer(), fc.constantFrom(0, 1, 2, 2 ** 40, -1, 0.5, null));
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...keys), value, async (key, changed) => {
          await writeFile(join(path, "config.json"), JSON.stringify({ ...config, [key]: changed }));
          await orProblem(path);
        }),
        { numRuns: 300 },
      );
    },
  );
});

describe("settings as they are written elsewhere", () => {
  test.each<[string, string, Record<string, unknown>, Partial<BackboneConfig>]>([
    ["rope_theta of old", "llama", { rope_parameters: undefined, rope_theta: 5e5 }, { ropeTheta: 5e5 }],
    [
      "linear scaling of old",
      "llama",
      { rope_parameters: undefined, rope_scaling: { type: "linear", factor: 4 } },
      { ropeScaling: { type: "linear", factor: 4 } },
    ],
    ["no rotary settings at all", "llama", { rope_parameters: undefined }, { ropeTheta: 10000 }],
    ["rope_scaling null", "llama", { rope_parameters: undefined, rope_scaling: null }, { ropeScaling: null }],
    ["no head_dim", "llama", { head_dim: undefined }, { headDim: 8 }],
    ["a window as long as the context", "mistral", { sliding_window: 128 }, {}],
    ["Qwen's window switched off", "qwen2", { sliding_window: 64 }, {}],
    ["tied although lm_head is stored", "mistral", { tie_word_embeddings: true }, { tiedEmbedding: true }],
    ["GPT-2's defaults", "gpt2", { layer_norm_epsilon: undefined, activation_function: undefined }, {}],
  ])("%s", async (_, from, config, expected) => {
    const path = await variant(from, { config });
    await using(path, source => {
      expect(source.config).toEqual({ ...configs[from]!, ...expected });
      expect(source.tensors.has("lm_head.weight")).toBe(!source.config.tiedEmbedding);
    });
  });
});

describe("weights in several files", () => {
  const path = () => join(directory, "sharded");
  beforeAll(async () => {
    const file = parseSafetensors(await readFile(join(tiny("llama"), "model.safetensors")));
    await mkdir(path());
    await cp(join(tiny("llama"), "config.json"), join(path(), "config.json"));
    const names = [...file.tensors.keys()];
    const weight_map = Object.fromEntries(names.map((name, at) => [name, `part-${at % 3}.safetensors`]));
    for (const shard of new Set(Object.values(weight_map))) {
      const tensors = names
        .filter(name => weight_map[name] === shard)
        .map(name => ({ name, dims: file.tensors.get(name)!.dims, data: file.read(name) }));
      await writeFile(join(path(), shard), writeSafetensors(tensors, { format: "pt" }));
    }
    await writeFile(
      join(path(), "model.safetensors.index.json"),
      JSON.stringify({ metadata: {}, weight_map }),
    );
  });

  test("are one backbone, with the fingerprint of the whole", () =>
    using(path(), source =>
      using(tiny("llama"), async whole => {
        expect(new Map(source.tensors)).toEqual(new Map(whole.tensors));
        for (const name of whole.tensors.keys())
          expect(await source.read(name)).toEqual(await whole.read(name));
        expect(await source.fingerprint()).toBe(await whole.fingerprint());
      }),
    ));

  test("one that is missing is named", async () => {
    await rm(join(path(), "part-1.safetensors"));
    await expect(openBackbone(path())).rejects.toThrow(/part-1.safetensors cannot be opened/);
  });
});

test("one bit of the weights changes the fingerprint", async () => {
  const weights = await readFile(join(tiny("llama"), "model.safetensors"));
  weights[weights.length - 1]! ^= 1;
  const path = await variant("llama", { files: { "model.safetensors": weights } });
  const changed = await using(path, source => source.fingerprint());
  expect(changed).not.toBe(await using(tiny("llama"), source => source.fingerprint()));
});

describe("a Hugging Face tokenizer's files", () => {
  const tokenizer = {
    added_tokens: [
      { id: 90, content: "<s>" },
      { id: 91, content: "<|im_end|>" },
    ],
    model: { vocab: { "</s>": 92, toString: 93 } },
  };
  const files = (config: unknown, more: Record<string, string> = {}, changed: object = {}) =>
    variant("llama", {
      files: {
        "tokenizer.json": JSON.stringify({ ...tokenizer, ...changed }),
        "tokenizer_config.json": JSON.stringify(config),
        ...more,
      },
    });
  const read = async (path: string) => (await using(path, source => source.tokenizerFiles()))!;

  test("special tokens, ends of the tokenizer first, and the chat template", async () => {
    const config = { bos_token: { content: "<s>" }, eos_token: "<|im_end|>", chat_template: "{{ x }}" };
    const found = await read(
      await files(config, { "generation_config.json": JSON.stringify({ eos_token_id: [92, 91] }) }),
    );
    expect(found).toEqual({
      tokenizer,
      config,
      chatTemplate: "{{ x }}",
      addBos: false,
      bosTokenId: 90,
      // 2 is config.json's.
      eosTokenIds: [91, 92, 2],
    });
  });

  test("a token of the vocabulary alone, and one that is nowhere", async () => {
    expect((await read(await files({ eos_token: "</s>" }))).eosTokenIds).toEqual([92, 2]);
    expect((await read(await files({ eos_token: "constructor" }))).eosTokenIds).toEqual([2]);
    expect((await read(await files({}))).bosTokenId).toBe(1);
  });

  test("templates in a file of their own, or named", async () => {
    const own = await files({ chat_template: "old" }, { "chat_template.jinja": "new" });
    expect((await read(own)).chatTemplate).toBe("new");
    const named = [
      { name: "tool_use", template: "tools" },
      { name: "default", template: "plain" },
    ];
    expect((await read(await files({ chat_template: named }))).chatTemplate).toBe("plain");
    expect((await read(await files({}))).chatTemplate).toBeNull();
  });

  test("BOS by the switch, else by the post-processor", async () => {
    const template = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>" } }, { Sequence: {} }],
    };
    const post_processor = { type: "Sequence", processors: [{ type: "ByteLevel" }, template] };
    expect((await read(await files({}, {}, { post_processor: template }))).addBos).toBe(true);
    expect((await read(await files({}, {}, { post_processor }))).addBos).toBe(true);
    expect((await read(await files({ add_bos_token: false }, {}, { post_processor }))).addBos).toBe(false);
    expect((await read(await files({ add_bos_token: true }))).addBos).toBe(true);
    expect((await read(await files({}, {}, { post_processor: { type: "ByteLevel" } }))).addBos).toBe(false);
  });
});

describeBackbone("SmolLM2-135M as GGUF", path => {
  test("configuration, shapes and fingerprint", () =>
    using(path, async source => {
      expect(source.name).toBe(basename(path, ".gguf"));
      // As in the config.json of HuggingFaceTB/SmolLM2-135M-Instruct.
      expect(source.config).toEqual({
        architecture: "llama",
        vocabSize: 49152,
        hiddenSize: 576,
        intermediateSize: 1536,
        layers: 30,
        heads: 9,
        kvHeads: 3,
        headDim: 64,
        maxPositions: 8192,
        normEpsilon: 1e-5,
        ropeTheta: 100000,
        ropeScaling: null,
        tiedEmbedding: true,
        attentionBias: false,
        mlpBias: false,
      });
      expect(source.tensors.size).toBe(272);
      expect(source.tensors.get("embed_tokens.weight")).toEqual([49152, 576]);
      expect(source.tensors.get("layers.29.mlp.down_proj.weight")).toEqual([576, 1536]);
      expect((await source.read("layers.0.self_attn.k_proj.weight")).length).toBe(192 * 576);
      expect(await source.fingerprint()).toMatch(/^[0-9a-f]{64}$/);
      const files = (await source.tokenizerFiles())!;
      expect(files).toMatchObject({ addBos: false, bosTokenId: 1 });
      expect(files.eosTokenIds[0]).toBe(2);
      expect(files.chatTemplate).toContain("<|im_start|>");
    }));
});
