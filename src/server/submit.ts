import type { FastifyReply, FastifyRequest } from "fastify";
import type { JobKind } from "../contract/job.ts";
import type { Task } from "../contract/task.ts";
import type { Dependencies } from "./dependencies.ts";
import { idempotent } from "./idempotency.ts";
import { jobView } from "./jobs.ts";

/** What a job keeps of its data: blobs, or the share of the examples that validates. */
interface JobData {
  examples: string;
  validation?: string | number;
  base?: string | null;
  kept?: readonly { parameters: string | null }[];
}

/** The blobs that a job needs until it ends. */
export const blobsOf = ({ examples, validation, base, kept = [] }: JobData): string[] =>
  [examples, validation, base, ...kept.map(({ parameters }) => parameters)].filter(
    blob => typeof blob === "string",
  );

/** Answers 202 with a job of a task, once for an `Idempotency-Key`; `make` checks what was asked for. */
export const submitJob = (
  { registry, engine, jobs }: Pick<Dependencies, "registry" | "engine" | "jobs">,
  request: FastifyRequest<{ Params: { id: string } }>,
  reply: FastifyReply,
  kind: JobKind,
  make: (task: Task) => Promise<JobData>,
): Promise<never> =>
  idempotent(registry, request as FastifyRequest, reply, async commit => {
    const task = await registry.getTask(request.params.id);
    const wanted = await make(task);
    const job = await jobs.submit({
      task: task.id,
      born: task.created_at,
      kind,
      request: wanted,
      backbone: engine.backbone().fingerprint,
      blobs: blobsOf(wanted),
      commit,
    });
    return { status: 202, headers: { Location: `/jobs/${job.id}` }, body: jobView(job) };
  });
