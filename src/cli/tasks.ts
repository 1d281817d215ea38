import { Command } from "commander";
import type { Labels, Task } from "../contract/task.ts";
import { addActivations } from "./activations.ts";
import { call, listAll, print, route, type ServerFlags, serverOptions, table } from "./request.ts";

const names = (labels: Labels | null) =>
  labels === null ? "" : Array.isArray(labels) ? labels.join(", ") : Object.keys(labels).join(", ");
const short = (text: string) => (text.length > 60 ? `${text.slice(0, 57)}...` : text);

export function tasks(): Command {
  const command = new Command("tasks").description(
    "list, show, create and delete a running server's tasks; their history, roll-back and shadow",
  );

  serverOptions(command.command("list", { isDefault: true }))
    .description("list the tasks")
    .action(async (flags: ServerFlags) => {
      const reply = await listAll<Task>(flags, "/tasks");
      print(flags.json, reply, () =>
        table(
          ["task", "type", "prompts", "labels"],
          reply.items.map(task => [task.id, task.type, task.prompts, short(names(task.labels))]),
        ),
      );
    });

  serverOptions(command.command("show <id>"))
    .description("show one task")
    .action(async (id: string, flags: ServerFlags) => {
      const task = await call<Task>(flags, "GET", route`/tasks/${id}`);
      print(flags.json, task, () =>
        table(
          ["", ""],
          Object.entries({ ...task, labels: names(task.labels), active: JSON.stringify(task.active) }),
        ),
      );
    });

  serverOptions(command.command("create <id>"))
    .description("create a task; labels make it a classification")
    .option("--labels <labels...>", "the labels")
    .option("--template <text>", "the prompt, with {{ input }} where the input belongs")
    .option("--description <text>", "what it is for")
    .action(async (id: string, { labels, template, description, ...flags }) => {
      const body = {
        id,
        type: labels ? "classification" : "generation",
        ...(labels && { labels }),
        ...(description && { description }),
        ...(template && { prompt: { kind: "hard", template } }),
      };
      const task = await call<Task>(flags as ServerFlags, "POST", "/tasks", body);
      print(
        flags.json,
        task,
        () =>
          `${task.id} is there, with ${task.prompts} prompt; ask it with: foreword infer ${task.id} "some text"\n`,
      );
    });

  serverOptions(command.command("delete <id>"))
    .description("delete a task with its prompts and history")
    .action(async (id: string, flags: ServerFlags) => {
      await call(flags, "DELETE", route`/tasks/${id}`);
      print(flags.json, { deleted: id }, () => `${id} is deleted\n`);
    });

  addActivations(command);
  return command;
}
