/** A process that writes until it is killed, and prints each write once it is acknowledged. */
import { writeSync } from "node:fs";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { hard, newTask } from "./records.ts";

const [folder, round] = process.argv.slice(2) as [string, string];
const registry = await openLmdbRegistry(folder);
const say = (fact: unknown) => writeSync(1, `${JSON.stringify(fact)}\n`);

async function writer(lane: number): Promise<never> {
  const task = `r${round}-${lane}`;
  await registry.createTask(newTask(task), hard(), "child");
  say({ task, version: 1, parameters: null });
  for (let at = 0; ; at++) {
    const bytes = new TextEncoder().encode(`${task} ${at} ${"x".repeat(10_000)}`);
    const parameters = await registry.putBlob(bytes);
    const prompt = { ...hard(), kind: "prefix" as const, parameters };
    const { version } = await registry.addPrompt(task, prompt, { activate: { by: "child" } });
    say({ task, version, parameters });
  }
}
await Promise.all([0, 1, 2].map(writer));
