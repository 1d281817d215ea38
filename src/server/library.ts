/** The bundled library (prompts/): its tasks are registered at the first start, when there is none yet. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Active, Labels, Task } from "../contract/task.ts";
import type { Engine } from "../engine/engine.ts";
import type { Logger } from "../observe/log.ts";
import { hardPrompt } from "../registry/new-prompt.ts";
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

const folder = fileURLToPath(new URL("../../prompts", import.meta.url));

export async function loadLibrary(registry: Registry, engine: Engine, log: Logger): Promise<void> {
  if ((await registry.listTasks({ limit: 1 })).items.length > 0) return;
  const names = (await readdir(folder, { withFileTypes: true }))
    .filter(entry => entry.isDirectory())
    .map(entry => entry.name);
  for (const name of names.sort()) {
    const { id, type, labels, description, template, active, scores } = JSON.parse(
      await readFile(join(folder, name, "task.json"), "utf8"),
    ) as LibraryTask;
    const prompt = { ...(await hardPrompt(engine, template, "library")), metrics: scores };
    await registry.createTask({ id, type, labels, description }, prompt, "library", active ?? { prompt: 1 });
  }
  log.info({ tasks: names }, "the bundled tasks are registered");
}
