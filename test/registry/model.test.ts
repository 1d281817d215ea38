/** Random commands against the registry and against plain maps: both must answer the same, restarts included. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer } from "../support/redis-server.ts";
import { codeOf } from "./contract.ts";
import { hard, newTask } from "./records.ts";

interface ModelTask {
  next: number;
  templates: Map<number, string>;
  active: number | null;
  activations: (number | null)[];
}
type Model = Map<string, ModelTask>;
interface Real {
  registry: Registry;
  /** Of what the last one kept. */
  open: () => Promise<Registry>;
}
type Command = fc.AsyncCommand<Model, Real>;

/** A command as its two effects: what the model answers and what the registry answers, compared as values. */
function command(
  name: string,
  model: (model: Model) => unknown,
  real: (real: Real) => Promise<unknown>,
): Command {
  return {
    check: () => true,
    run: async (tasks, target) => expect(await real(target), name).toEqual(model(tasks)),
    toString: () => name,
  };
}

const id = fc.constantFrom("a", "a.b", "b");
const version = fc.integer({ min: 1, max: 5 });

const create = fc.tuple(id, fc.boolean()).map(([task, first]) =>
  command(
    `create ${task} ${first}`,
    model => {
      if (model.has(task)) return "task_exists";
      model.set(task, {
        next: first ? 2 : 1,
        templates: new Map(first ? [[1, "first {{ input }}"]] : []),
        active: first ? 1 : null,
        activations: first ? [1] : [],
      });
      return { resolved: first ? 1 : 0 };
    },
    ({ registry }) =>
      codeOf(
        registry
          .createTask(newTask(task), first ? hard("first {{ input }}") : null, "x")
          .then(made => made.prompts),
      ),
  ),
);
const add = fc.tuple(id, fc.string(), fc.boolean()).map(([task, template, activate]) =>
  command(
    `add ${task} ${activate}`,
    model => {
      const row = model.get(task);
      if (!row) return "task_not_found";
      const added = row.next++;
      row.templates.set(added, template);
      if (activate) {
        row.active = added;
        row.activations.unshift(added);
      }
      return { resolved: added };
    },
    ({ registry }) =>
      codeOf(
        registry
          .addPrompt(task, hard(template), activate ? { activate: { by: "x" } } : {})
          .then(prompt => prompt.version),
      ),
  ),
);
const removePrompt = fc.tuple(id, version).map(([task, at]) =>
  command(
    `remove ${task} ${at}`,
    model => {
      const row = model.get(task);
      if (!row) return "task_not_found";
      if (!row.templates.has(at)) return "prompt_not_found";
      if (row.active === at) return "prompt_in_use";
      row.templates.delete(at);
      return { resolved: undefined };
    },
    ({ registry }) => codeOf(registry.deletePrompt(task, at)),
  ),
);
const setActive = fc.tuple(id, fc.option(version)).map(([task, at]) =>
  command(
    `activate ${task} ${at}`,
    model => {
      const row = model.get(task);
      if (!row) return "task_not_found";
      if (at !== null && !row.templates.has(at)) return "prompt_not_found";
      row.active = at;
      row.activations.unshift(at);
      return { resolved: row.activations.length };
    },
    ({ registry }) =>
      codeOf(
        registry
          .setActive(task, at === null ? null : { prompt: at }, "x")
          .then(({ active_revision }) => active_revision),
      ),
  ),
);
const removeTask = id.map(task =>
  command(
    `remove ${task}`,
    model => (model.delete(task) ? { resolved: undefined } : "task_not_found"),
    ({ registry }) => codeOf(registry.deleteTask(task)),
  ),
);
const restart = fc.constant(
  command(
    "restart",
    () => null,
    async real => {
      await real.registry.close();
      real.registry = await real.open();
      return null;
    },
  ),
);
const look = fc.constant(
  command(
    "look",
    model =>
      [...model.keys()].sort().map(task => {
        const row = model.get(task)!;
        return {
          task,
          active: row.active,
          prompts: [...row.templates].sort(([a], [b]) => a - b),
          activations: row.activations,
        };
      }),
    async ({ registry }) =>
      Promise.all(
        (await registry.listTasks()).items.map(async task => ({
          task: task.id,
          active: task.active?.prompt ?? null,
          prompts: (await registry.listPrompts(task.id)).items.map(prompt => [
            prompt.version,
            prompt.template,
          ]),
          activations: (await registry.listHistory(task.id)).items.map(entry => entry.active?.prompt ?? null),
        })),
      ),
  ),
);

const commands = fc.commands([create, add, removePrompt, setActive, removeTask, restart, look], {
  maxCommands: 40,
});

/** `open` opens what it opened before; `empty` begins anew. */
const answersAsMaps = (empty: () => Promise<void>, open: () => Promise<Registry>) =>
  fc.assert(
    fc.asyncProperty(commands, async steps => {
      await empty();
      const real: Real = { open, registry: await open() };
      try {
        await fc.asyncModelRun(() => ({ model: new Map(), real }), steps);
      } finally {
        await real.registry.close();
      }
    }),
    { numRuns: 30 },
  );

describe("whatever is asked in whatever order, plain maps would answer the same", () => {
  it("lmdb", async () => {
    const root = await mkdtemp(join(tmpdir(), "foreword-model-"));
    let folder = root;
    const empty = async () => {
      folder = await mkdtemp(join(root, "registry-"));
    };
    await answersAsMaps(empty, () => openLmdbRegistry(folder));
    await rm(root, { recursive: true });
  });

  describeRedis("redis", () => {
    it("redis", async () => {
      const redis = await RedisServer.start();
      const empty = async () => void (await redis.admin.flushall());
      try {
        await answersAsMaps(empty, () => openRedisRegistry(redis.url));
      } finally {
        await redis.remove();
      }
    });
  });
});
