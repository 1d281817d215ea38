import { Command } from "commander";
import type { RetrainReply } from "../contract/retrain.ts";
import { call, print, type ServerFlags, serverOptions, table } from "./request.ts";

interface RetrainFlags extends ServerFlags {
  dryRun?: boolean;
  activate: boolean;
}

export const retrain = (): Command =>
  serverOptions(new Command("retrain"))
    .description("after a change of backbone: train again the active prompts that belong to another one")
    .argument("[tasks...]", "ids of tasks (default: all of them)")
    .option("--dry-run", "tell what would be done, and do nothing")
    .option("--no-activate", "do not let the new prompts answer")
    .action(async (tasks: string[], { dryRun, activate, ...flags }: RetrainFlags) => {
      const body = { ...(tasks.length > 0 && { tasks }), ...(dryRun && { dry_run: true }), activate };
      const reply = await call<RetrainReply>(flags, "POST", "/retrain", body);
      print(flags.json, reply, () => draw(reply));
    });

function draw({ jobs, skipped, dry_run }: RetrainReply): string {
  const made = jobs.map(({ task, versions, job, activates, changed }) => [
    task,
    versions.join(", "),
    job ?? "(dry run)",
    [activates ? "answers when it is trained" : "", ...changed.map(name => `another ${name}`)]
      .filter(text => text !== "")
      .join("; "),
  ]);
  const left = skipped.map(({ task, reason, detail }) => [task, reason, detail]);
  const head = `${jobs.length} ${dry_run ? "to train" : "to be trained"}, ${skipped.length} left as they are\n`;
  return [
    head,
    made.length > 0 ? `\n${table(["task", "version", "job", ""], made)}` : "",
    left.length > 0 ? `\n${table(["task", "why not", ""], left)}` : "",
  ].join("");
}
