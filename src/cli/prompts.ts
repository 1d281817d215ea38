import { Command, Option } from "commander";
import type { PromptRef } from "../contract/common.ts";
import type { Piece, PromptRecord } from "../contract/prompt.ts";
import type { Active } from "../contract/task.ts";
import type { AttentionReport, NearestReport } from "../contract/transfer.ts";
import { exportPrompt, type ImportOptions, importPrompt, promptsOf } from "./prompt-files.ts";
import { listOf } from "./remedy.ts";
import { call, listAll, print, route, type ServerFlags, serverOptions, table } from "./request.ts";
import { drawAttention, drawNearest } from "./transfer-report.ts";
import { activeOf, numberOf, onOption, refOf } from "./values.ts";

type Prompt = PromptRecord & { pieces: Piece[]; compatible: boolean };

const activateOption = () => new Option("--activate", "let it answer from now on");

export function prompts(): Command {
  const command = new Command("prompts").description(
    "list, show, add, copy, import, export and activate a task's prompt versions",
  );

  serverOptions(listOf(command, "list <task>"))
    .description("list a task's versions")
    .action(async (task: string, flags: ServerFlags) => {
      const reply = await listAll<Prompt>(flags, route`/tasks/${task}/prompts`);
      print(flags.json, reply, () =>
        table(
          ["version", "kind", "tokens", "fits", "name", "created"],
          reply.items.map(prompt => [
            prompt.version,
            prompt.kind,
            prompt.length,
            prompt.compatible ? "yes" : "no: another backbone",
            prompt.name ?? "",
            prompt.created_at,
          ]),
        ),
      );
    });

  serverOptions(command.command("show <task> <version>"))
    .description("show one version, and which of its pieces are frozen or trained")
    .action(async (task: string, version: string, flags: ServerFlags) => {
      const prompt = await call<Prompt>(flags, "GET", route`/tasks/${task}/prompts/${version}`);
      const piece = (each: Piece) => {
        if ("text" in each) return ["frozen", JSON.stringify(each.text)];
        if ("field" in each) return ["frozen", `{{ ${each.field} }}`];
        return [
          "frozen" in each ? "frozen" : "trained",
          "soft" in each ? `${each.soft} virtual tokens` : `prefix of ${each.prefix} positions`,
        ];
      };
      print(
        flags.json,
        prompt,
        () =>
          `version ${prompt.version}, ${prompt.kind}, ${prompt.length} tokens cached${
            prompt.compatible
              ? ""
              : `; of another backbone (${prompt.backbone.name}), so it can't answer here`
          }\n${table(["", ""], prompt.pieces.map(piece))}`,
      );
    });

  serverOptions(command.command("nearest <task> <version>"))
    .description("the words nearest to each virtual token of a soft prompt")
    .option("--count <count>", "words for each (default: 5)", numberOf)
    .action(async (task: string, version: string, { count, ...flags }) => {
      const path = route`/tasks/${task}/prompts/${version}/nearest`;
      const query = count === undefined ? "" : route`?count=${count}`;
      const report = await call<NearestReport>(flags as ServerFlags, "GET", path + query);
      print(flags.json, report, () => drawNearest(report));
    });

  serverOptions(command.command("attention <task> <version> <inputs...>"))
    .description("how much attention each position of a prompt gets from inputs, by layer")
    .action(async (task: string, version: string, inputs: string[], flags: ServerFlags) => {
      const path = route`/tasks/${task}/prompts/${version}/attention`;
      const report = await call<AttentionReport>(flags, "POST", path, { inputs });
      print(flags.json, report, () => drawAttention(report));
    });

  serverOptions(command.command("add <task> <template>"))
    .description(
      "add a hard prompt; a line break is written as the shell writes it: $'Text: {{ input }}\\nLabel:'",
    )
    .addOption(activateOption())
    .addOption(onOption())
    .action(async (task: string, template: string, { activate, on, ...flags }) => {
      const prompt = await call<Prompt>(flags as ServerFlags, "POST", promptsOf(task, activate), {
        kind: "hard",
        template,
        ...(on && { on }),
      });
      print(
        flags.json,
        prompt,
        () => `version ${prompt.version} is there${activate ? ", and active" : ""}\n`,
      );
    });

  serverOptions(command.command("copy"))
    .description("copy a version of another task; a trained one needs the same labels")
    .argument("<from>", "<task>/<version>", refOf)
    .argument("<task>", "the task that gets the copy")
    .addOption(activateOption())
    .addOption(onOption())
    .option("--name <name>", "the copy's name (default: the original's)")
    .action(async (from: PromptRef, task: string, { activate, on, name, ...flags }) => {
      const body = { from, ...(on && { on }), ...(name !== undefined && { name }) };
      const prompt = await call<Prompt>(flags as ServerFlags, "POST", promptsOf(task, activate), body);
      print(
        flags.json,
        prompt,
        () =>
          `version ${prompt.version} is a copy of ${from.task}/${from.version}${activate ? ", and active" : ""}\n`,
      );
    });

  serverOptions(command.command("import <task> <from>"))
    .description("add a prompt file (.safetensors), or an adapter of PEFT: a folder or a .zip archive")
    .option(
      "--template <template>",
      "for an adapter: the text behind its prompt (default: the adapter's own, else {{ input }})",
    )
    .option("--task-index <index>", "for an adapter of several tasks: which one, from 0")
    .addOption(activateOption())
    .action(async (task: string, from: string, flags: ServerFlags & ImportOptions) => {
      const prompt = await importPrompt(flags, task, from, flags);
      print(
        flags.json,
        prompt,
        () =>
          `version ${prompt.version} is there, ${prompt.kind}, ${prompt.length} tokens cached${flags.activate ? ", and active" : ""}\n`,
      );
    });

  serverOptions(command.command("export <task> <version> <to>"))
    .description(
      "write a version as a prompt file (.safetensors), or for PEFT: into a .zip archive or a folder",
    )
    .addOption(
      new Option("--peft-type <type>", "what PEFT loads it as (default: PREFIX_TUNING)").choices([
        "PREFIX_TUNING",
        "PROMPT_TUNING",
      ]),
    )
    .action(async (task: string, version: string, to: string, flags: ServerFlags & { peftType?: string }) => {
      const written = await exportPrompt(flags, task, version, to, flags.peftType);
      print(flags.json, { written }, () => written.map(path => `${path}\n`).join(""));
    });

  serverOptions(command.command("activate"))
    .description(
      "let a version answer, or several that vote; what answered before comes back with tasks rollback",
    )
    .argument("<task>", "the task's id")
    .argument(
      "<what>",
      "a version, an ensemble such as 2+3+4:majority, or what PUT /tasks/:id/active takes, as JSON",
      activeOf,
    )
    .action(async (task: string, what: Active, flags: ServerFlags) => {
      const reply = await call(flags, "PUT", route`/tasks/${task}/active`, what);
      const name = what.prompt === undefined ? JSON.stringify(what) : `version ${what.prompt}`;
      print(flags.json, reply, () => `${name} answers for ${task}\n`);
    });
  return command;
}
