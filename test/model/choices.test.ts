/** Choices behind a vocabulary that reads texts in NFC, as Qwen's do: the answer is one of them all the same. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type GenerateAnswer, generateRequest, openCore, type TestCore } from "../support/core.ts";
import { type TinyBackbone, tinyBackbone } from "../support/tiny.ts";

let cache: string;
let backbone: TinyBackbone;
let core: TestCore;
beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), "foreword-choices-"));
  backbone = await tinyBackbone("qwen2", false);
  const file = join(backbone.path, "tokenizer.json");
  const tokenizer = JSON.parse(await readFile(file, "utf8"));
  // The bytes of é, in place of two signs.
  const { vocab } = tokenizer.model;
  for (const [sign, byte] of ["&Ã", "*©"]) {
    vocab[byte!] = vocab[sign!];
    delete vocab[sign!];
  }
  await writeFile(file, JSON.stringify({ ...tokenizer, normalizer: { type: "NFC" } }));
  core = await openCore(backbone.path, cache);
});
afterAll(async () => {
  await core?.close();
  await backbone.remove();
  await rm(cache, { recursive: true, force: true });
});

const decomposed = "cafe\u0301";
const composed = "caf\u00e9";

test.each([
  ["one that the vocabulary spells otherwise", [decomposed]],
  ["one that goes on", [`${decomposed} in the th`, `${decomposed} in the thin`]],
  ["the first of two that it takes for the same", [decomposed, composed]],
  ["the other, where it comes first", [composed, decomposed]],
  ["one of many", [`a ${decomposed}`, `b ${decomposed}`, `c ${decomposed}s`, composed]],
])("%s", async (_, choices) => {
  const { tokenizer } = core;
  expect(tokenizer.decode(tokenizer.encode(decomposed), { skipSpecial: true })).toBe(composed);
  const prompt = core.prompt("{{ input }}:");
  for (const more of [{}, { temperature: 5, seed: 1 }, { temperature: 5, seed: 2, logprobs: 1 }]) {
    let streamed = "";
    const { text, finishReason } = (await core.core.infer(
      generateRequest(prompt, "the", { choices, maxTokens: 1, ...more }),
      {
        ...core.far(),
        onToken: (token: { text: string }) => {
          streamed += token.text;
        },
      },
    )) as GenerateAnswer;
    expect(choices).toContain(text);
    const same = choices.filter(each => each.normalize() === text.normalize());
    expect(text).toBe(same[0]);
    expect(streamed).toBe(text);
    expect(finishReason).toBe("stop");
  }
});
