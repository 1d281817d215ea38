import type { Static, TSchema } from "typebox";
import { IdParams } from "../contract/common.ts";
import { Job, type JobKind } from "../contract/job.ts";
import type { Task } from "../contract/task.ts";
import type { App, Dependencies } from "./dependencies.ts";
import { Repeatable } from "./headers.ts";
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

interface JobRoute<Body extends TSchema> {
  /** The end of the path too. */
  kind: JobKind;
  tag: string;
  summary: string;
  body: Body;
  /** Throws for bodies that deserve a better answer than their schema's. */
  refuse?: (body: unknown) => void;
}

/** Answers 202 with a job of a task, once for an `Idempotency-Key`; `make` checks what was asked for. */
export function jobRoute<Body extends TSchema>(
  app: App,
  { registry, engine, jobs }: Pick<Dependencies, "registry" | "engine" | "jobs">,
  { kind, tag, summary, body, refuse }: JobRoute<Body>,
  make: (task: Task, body: Static<Body>) => Promise<JobData>,
): void {
  app.post(
    `/tasks/:id/${kind}`,
    {
      schema: {
        tags: [tag],
        summary,
        params: IdParams,
        headers: Repeatable,
        body: body as TSchema,
        response: { 202: Job },
      },
      ...(refuse && { preValidation: async (request: { body: unknown }) => refuse(request.body) }),
    },
    (request, reply) =>
      idempotent(registry, request, reply, async commit => {
        const task = await registry.getTask(request.params.id);
        const wanted = await make(task, request.body as Static<Body>);
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
      }),
  );
}
