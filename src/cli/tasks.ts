import { Command } from "commander";
import type { Labels, Task } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";
import { addActivations } from "./activations.ts";
import { listOf, withRemedy } from "./remedy.ts";
import { call, listAll, print, route, type ServerFlags, serverOptions, table } from "./request.ts";
import { quoted } from "./values.ts";

const names = (labels: Labels | null) =>
  labels === null ? "" : Array.isArray(labels) ? labels.join(", ") : Object.keys(labels).join(", ");
const short = (text: string) => (text.length > 60 ? `${text.slice(0, 57)}...` : text);

export function tasks(): Command {
  const command = new Command("tasks").description(
    "list, show, create and delete a running server's tasks; their history, roll-back and shadow",
  );

  serverOptions(listOf(command))
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

  const create = command.command("create <id>");
  withRemedy(serverOptions(create), message =>
    message.includes("missing required argument") && create.opts().labels
      ? "--labels takes every word behind it: put the id first, as in: foreword tasks create ticket --labels bug praise"
      : "",
  )
    .description("create a task: a classification with --labels, else one that writes texts")
    .option("--labels <labels...>", "the labels, separated by spaces, after the id")
    .option("--template <text>", "the prompt, with {{ input }} where the input belongs")
    .option("--description <text>", "what it is for")
    .action(async (id: string, { labels, template, description, ...flags }) => {
      const body = {
        id,
        type: labels !== undefined ? "classification" : "generation",
        ...(labels !== undefined && { labels: severalOf(labels) }),
        ...(description !== undefined && { description }),
        ...(template !== undefined && { prompt: { kind: "hard", template } }),
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

/** A label may hold a comma; one alone that does was meant as several. */
function severalOf(labels: string[]): string[] {
  const [label = ""] = labels;
  if (labels.length > 1 || !label.includes(",")) return labels;
  const several = label.split(",").map(each => quoted(each.trim()));
  throw new ForewordError(
    "validation",
    `--labels: "${label}" is one label, and a task has two at least. Separate them by spaces: --labels ${several.join(" ")}`,
  );
}
