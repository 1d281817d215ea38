/** What answers, what did before, and how its shadow does: commands of `tasks`. */
import type { Command } from "commander";
import type { Activation, Active, ShadowReport } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";
import {
  request as ask,
  call,
  jsonOf,
  print,
  route,
  type ServerFlags,
  serverOptions,
  table,
} from "./request.ts";
import { numberOf } from "./values.ts";

/** Activations that a roll-back looks at. */
const RECENT = 1000;

export function addActivations(command: Command): void {
  serverOptions(command.command("history <id>"))
    .description("who activated what, and when; newest first")
    .option("--limit <count>", "most entries to show (default: 20)", numberOf)
    .action(async (id: string, { limit = 20, ...flags }) => {
      const reply = await historyOf(flags as ServerFlags, id, limit);
      print(flags.json, reply, () =>
        table(
          ["revision", "at", "by", "active"],
          reply.items.map(({ revision, at, by, active }) => [revision, at, by, JSON.stringify(active)]),
        ),
      );
    });

  serverOptions(command.command("rollback <id>"))
    .description("activate what was active before, or at a revision of the history")
    .option("--to <revision>", "the revision to go back to, from tasks history", numberOf)
    .action(async (id: string, { to, ...flags }) => {
      const server = flags as ServerFlags;
      const { items } = await historyOf(server, id, RECENT);
      const { active } = former(id, items, to);
      // Nothing is undone that somebody chose meanwhile.
      const headers = { "content-type": "application/json", "if-match": `"${items[0]!.revision}"` };
      const body = JSON.stringify(active);
      const reply = await ask(server, "PUT", route`/tasks/${id}/active`, { headers, body });
      print(
        flags.json,
        await jsonOf(server, reply),
        () => `${JSON.stringify(active)} answers for ${id} again\n`,
      );
    });

  serverOptions(command.command("shadow <id>"))
    .description("how often a task's shadow agrees with what answers, as counted by this server")
    .action(async (id: string, flags: ServerFlags) => {
      const report = await call<ShadowReport>(flags, "GET", route`/tasks/${id}/shadow`);
      print(flags.json, report, () =>
        table(
          ["", ""],
          Object.entries(report).map(([name, value]) => [
            name,
            typeof value === "object" ? JSON.stringify(value) : value,
          ]),
        ),
      );
    });
}

const historyOf = (flags: ServerFlags, id: string, limit: number) =>
  call<{ items: Activation[] }>(flags, "GET", route`/tasks/${id}/history?limit=${limit}`);

/** The entry that is to answer again: the last one that differs from what is active now. */
function former(
  id: string,
  items: readonly Activation[],
  to: number | undefined,
): Activation & { active: Active } {
  const [now] = items;
  const found = items.find(({ revision, active }) =>
    to === undefined
      ? active !== null && JSON.stringify(active) !== JSON.stringify(now!.active)
      : revision === to,
  );
  if (found?.active) return { ...found, active: found.active };
  throw new ForewordError(
    "not_found",
    to === undefined
      ? `Nothing else was active for ${id} before. foreword tasks history ${id} lists what was.`
      : `No revision ${to} of ${id} has an active prompt. foreword tasks history ${id} lists those that have.`,
  );
}
