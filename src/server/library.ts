/**
 * The bundled library (prompts/): its tasks are registered at the first start, when there is none yet; a start that was
 * cut short is made good by the next one. A task begins with its hard prompt; on the backbone that they were trained on,
 * its soft prompt and its prefix follow, and the prefix answers.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Active, Labels, Task } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import { orElse } from "../errors.ts";
import { areAway, patiently } from "../jobs/patience.ts";
import type { Logger } from "../observe/log.ts";
import { readPromptFile } from "../prompt/file.ts";
import { hardPrompt, trainedPrompt } from "../registry/new-prompt.ts";
import type { Registry } from "../registry/registry.ts";

/** prompts/<task>/task.json. */
interface LibraryTask {
  id: string;
  type: Task["type"];
  labels: Labels | null;
  description: string;
  template: string;
  active?: Active;
  scores: object;
}

/** prompts/<task>/<method>.safetensors, and .json with its scores; what comes last answers. */
const trained = ["soft", "prefix"] as const;

/** Who registers and activates, and what bundled versions are called. */
const NAME = "library";
const [BEGUN, DONE] = ["library begun", "library registered"];

const folder = fileURLToPath(new URL("../../prompts", import.meta.url));

/** As often as it takes: a registry that is away comes back, and so does an engine that has stopped. */
export const loadLibraryPatiently = (
  registry: Registry,
  engine: Engine,
  log: Logger,
  signal: AbortSignal,
): Promise<void> =>
  patiently(() => loadLibrary(registry, engine, log), {
    signal,
    within: Number.POSITIVE_INFINITY,
    passes: areAway,
    onFailure: error => log.error({ err: error }, "the bundled tasks are not registered yet"),
  });

export async function loadLibrary(registry: Registry, engine: Engine, log: Logger): Promise<void> {
  if (await registry.marked(DONE)) return;
  const empty = (await registry.listTasks({ limit: 1 })).items.length === 0;
  if (!empty && !(await registry.marked(BEGUN))) return registry.mark(DONE);
  await registry.mark(BEGUN);
  const names = (await readdir(folder, { withFileTypes: true }))
    .filter(entry => entry.isDirectory())
    .map(entry => entry.name);
  for (const name of names.sort()) {
    const { id, type, labels, description, template, active, scores } = await readJson<LibraryTask>(
      join(folder, name, "task.json"),
    );
    const fitting = await hardPrompt(engine, template, NAME).catch(orElse(null, "input_too_long"));
    if (fitting === null) {
      log.info({ task: id }, "the backbone's context is too short for this bundled task, which is left out");
      continue;
    }
    const prompt = { ...fitting, metrics: scores };
    // There already: by a start that was cut short, or by a caller who was faster, whose task stays as it is.
    await registry
      .createTask({ id, type, labels, description }, prompt, NAME, active ?? { prompt: 1 })
      .catch(orElse(null, "task_exists"));
    // Gone again: deleted by a caller who was faster.
    await addAllTrained(registry, engine, id, join(folder, name)).catch(orElse(null, "task_not_found"));
  }
  await registry.mark(DONE);
  log.info({ tasks: names }, "the bundled tasks are registered");
}

async function addAllTrained(registry: Registry, engine: Engine, task: string, place: string): Promise<void> {
  const [first] = (await registry.listPrompts(task, { limit: 1 })).items;
  if (first?.name !== NAME) return;
  for (const method of trained) await addTrained(registry, engine, task, join(place, method));
}

async function addTrained(registry: Registry, engine: Engine, task: string, place: string): Promise<void> {
  const file = await readFile(`${place}.safetensors`).catch(absent);
  if (file === null || readPromptFile(file).backbone !== engine.backbone().fingerprint) return;
  const metrics = await readJson<object>(`${place}.json`);
  const prompt = { ...(await trainedPrompt(engine, registry, file)), name: NAME, metrics };
  await registry.addPrompt(task, prompt, { activate: { by: NAME }, once: true });
}

const readJson = async <Content>(path: string): Promise<Content> => JSON.parse(await readFile(path, "utf8"));

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === "ENOENT") return null;
  throw error;
}
