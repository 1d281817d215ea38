import { Command } from "commander";
import type { Job } from "../contract/job.ts";
import { listOf } from "./remedy.ts";
import { call, listAll, print, route, type ServerFlags, serverOptions, table } from "./request.ts";
import { watch } from "./watch.ts";

const done = ({ progress }: Job) => (progress === null ? "" : `${progress.step}/${progress.steps}`);

export function jobs(): Command {
  const command = new Command("jobs").description("list, show, watch and cancel a running server's jobs");

  serverOptions(listOf(command))
    .description("list the jobs, newest first")
    .option("--task <id>", "only jobs of this task")
    .action(async ({ task, ...flags }) => {
      const query = task !== undefined ? `?${new URLSearchParams({ task })}` : "";
      const reply = await listAll<Job>(flags as ServerFlags, `/jobs${query}`);
      print(flags.json, reply, () =>
        table(
          ["job", "task", "kind", "state", "steps", "created"],
          reply.items.map(job => [job.id, job.task, job.kind, job.state, done(job), job.created_at]),
        ),
      );
    });

  serverOptions(command.command("show <id>"))
    .description("show one job, and its log")
    .action(async (id: string, flags: ServerFlags) => {
      const job = await call<Job>(flags, "GET", route`/jobs/${id}`);
      const { log, progress, result, error, ...rest } = job;
      print(flags.json, job, () => {
        const fields = { ...rest, steps: done(job), ...(error && { error: error.detail }), ...result };
        const text = (value: unknown) => (typeof value === "object" ? JSON.stringify(value) : value);
        return (
          table(
            ["", ""],
            Object.entries(fields).map(([name, value]) => [name, text(value)]),
          ) + log.map(line => `${line.at}  ${line.text}\n`).join("")
        );
      });
    });

  serverOptions(command.command("watch <id>"))
    .description("follow a job to its end; Ctrl-C stops the watching, not the job")
    .action((id: string, flags: ServerFlags) => watch(flags, id));

  serverOptions(command.command("cancel <id>"))
    .description("cancel a job; one that has ended stays as it is")
    .action(async (id: string, flags: ServerFlags) => {
      const job = await call<Job>(flags, "DELETE", route`/jobs/${id}`);
      print(flags.json, job, () => `${id}: ${job.state}\n`);
    });
  return command;
}
