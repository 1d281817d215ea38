/**
 * llama.cpp through node-llama-cpp, asked by messages: `{rows, texts, tokens}` generates `tokens` tokens for each text,
 * all rows in one batch, and answers how long it took and how many tokens went in and came out.
 *
 *     node llama.mjs model.gguf <threads>
 */
import { getLlama } from "node-llama-cpp";

const [model, threads] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: Number(threads), logLevel: "error" });
const loaded = await llama.loadModel({ modelPath: model });
const rows = 32;
const context = await loaded.createContext({
  sequences: rows,
  contextSize: 256,
  batchSize: 2048,
  threads: Number(threads),
});
const sequences = Array.from({ length: rows }, () => context.getSequence());

async function generate(sequence, text, tokens) {
  const input = loaded.tokenize(text);
  let output = 0;
  for await (const _ of sequence.evaluate(input, { temperature: 0, yieldEogToken: true }))
    if (++output === tokens) break;
  return { input: input.length, output };
}

process.on("message", async ({ texts, tokens }) => {
  for (const sequence of sequences) await sequence.clearHistory();
  const started = performance.now();
  const done = await Promise.all(texts.map((text, row) => generate(sequences[row], text, tokens)));
  const seconds = (performance.now() - started) / 1000;
  const sum = field => done.reduce((total, row) => total + row[field], 0);
  process.send({ seconds, input: sum("input"), output: sum("output") });
});
process.send({ build: llama.buildType, release: llama.llamaCppRelease.release, system: llama.systemInfo });
