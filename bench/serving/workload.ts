/** The tasks and inputs of the serving bench. Words are one token each, so that lengths are what they say. */
import type { BackboneReport } from "../../src/contract/backbone.ts";
import { randomFrom } from "../../src/engine/sampler.ts";
import { writePromptFile } from "../../src/prompt/file.ts";
import type { Product } from "../harness/product.ts";

const words =
  "the a film was very good and not bad but story about people who live in small town near river with old house where they find new way to see world after long time".split(
    " ",
  );
const names = ["river", "house", "garden", "city", "forest", "mountain", "village", "island"];
const random = randomFrom(7);
const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!;

/** `count` words; no two calls give the same text. */
export const text = (count: number): string => Array.from({ length: count }, () => pick(words)).join(" ");

/** What a story is asked for about. */
export const subject = (): string => `a ${pick(names)} and a ${pick(names)} by the ${pick(names)}`;

/** A beginning of about 32 tokens that the backbone goes on with for long. */
export const opening = (): string =>
  `Once upon a time, in a ${pick(names)} by a ${pick(names)}, there was a child who loved the ${pick(names)} and the ${pick(names)}. One day the child`;

const kinds = ["long", "sad", "funny", "strange", "old", "true", "short", "scary"];
const story = (kind: string) =>
  `<|im_start|>user\nWrite a ${kind} story of several pages about {{ input }}.<|im_end|>\n<|im_start|>assistant\n`;

const labels = ["positive", "negative"];
const hardTemplate = (length: number) => `${text(length)}.\nReview: {{ input }}\nSentiment:`;

/** Eight tasks of all kinds, each with a prompt of about 50 tokens, and what they are compared with. */
export async function registerTasks(product: Product) {
  const backbone = await product.get<BackboneReport>("/backbone");
  const classify = (id: string, template: string) =>
    product.post("/tasks", { id, labels, prompt: { kind: "hard", template } });
  await classify("plain", "{{ input }}\nSentiment:");
  await classify("long", hardTemplate(92));
  await classify("one", hardTemplate(42));
  const mixed = Array.from({ length: 8 }, (_, index) => `mixed-${index}`);
  for (const [index, id] of mixed.entries()) {
    await classify(id, hardTemplate(42));
    if (index % 4 === 2) await upload(product, id, soft(backbone, 50));
    if (index % 4 === 3) await upload(product, id, prefix(backbone, 50));
  }
  const stories = kinds.map(kind => `story-${kind}`);
  for (const [index, id] of stories.entries())
    await product.post("/tasks", {
      id,
      type: "generation",
      prompt: { kind: "hard", template: story(kinds[index]!) },
    });
  return { mixed, stories };
}

export const upload = <Reply>(product: Product, task: string, file: Uint8Array): Promise<Reply> =>
  product.post(`/tasks/${task}/prompts?activate=true`, file, "application/vnd.foreword.prompt+safetensors");

const small = (size: number) => Float32Array.from({ length: size }, () => (random() - 0.5) / 10);

function soft({ fingerprint, hidden }: BackboneReport, length: number): Uint8Array {
  return writePromptFile({
    kind: "soft",
    template: `{{ soft(${length}) }}Review: {{ input }}\nSentiment:`,
    backbone: fingerprint,
    recipe: null,
    soft: { dims: [length, hidden], data: small(length * hidden) },
  });
}

export function prefix(
  { fingerprint, layers, kv_heads, head_dim }: BackboneReport,
  length: number,
): Uint8Array {
  const size = layers * kv_heads * length * head_dim;
  return writePromptFile({
    kind: "prefix",
    template: "Review: {{ input }}\nSentiment:",
    backbone: fingerprint,
    recipe: null,
    prefix: { dims: [layers, kv_heads, length, head_dim], key: small(size), value: small(size) },
  });
}
