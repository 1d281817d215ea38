/** Small records that the registry's tests store. */
import { setTimeout as sleep } from "node:timers/promises";
import type { NewJob, NewPrompt, NewTask } from "../../src/registry/registry.ts";
import type { Row } from "../../src/registry/store.ts";

export const newTask = (id: string): NewTask => ({
  id,
  type: "classification",
  labels: ["spam", "not_spam"],
  description: "",
});

export const hard = (template = "Text: {{ input }}\nLabel:"): NewPrompt => ({
  name: null,
  kind: "hard",
  template,
  parameters: null,
  length: 2,
  bytes: 0,
  backbone: { name: "tiny", fingerprint: "f" },
  parent: null,
  recipe: null,
  metrics: null,
});

export const newJob = (id: string, task = "t"): NewJob => ({
  id,
  task,
  kind: "train",
  state: "queued",
  progress: null,
  result: null,
  error: null,
  started_at: null,
  ended_at: null,
  request: { steps: 3 },
  blobs: [],
  checkpoint: null,
  attempts: 0,
  holder: null,
  log: [],
});

/** Resolves when what is made now is younger. */
export async function later(than: string): Promise<void> {
  while (new Date().toISOString() <= than) await sleep(1);
}

export async function* inTurn(rows: readonly Row[]): AsyncGenerator<Row> {
  yield* rows;
}

/** As `snapshot` gives them. */
export async function allOf(rows: AsyncIterable<Row>): Promise<Row[]> {
  const found = [];
  for await (const row of rows) found.push(row);
  return found;
}
