import { Type } from "typebox";
import { Id, IdParams, Page, PageQuery } from "../contract/common.ts";
import { Job } from "../contract/job.ts";
import type { JobRecord } from "../registry/registry.ts";
import type { Resource } from "./dependencies.ts";
import { whenGone } from "./gone.ts";

const Query = Type.Object({ ...PageQuery.properties, task: Type.Optional(Id) });

/** How often a stream without news shows that it lives. */
const HEARTBEAT_MS = 15_000;

/** What callers see of a record. */
export const jobView = ({
  request,
  backbone,
  born,
  blobs,
  checkpoint,
  attempts,
  holder,
  revision,
  ...job
}: JobRecord): Job => job;

export const jobs: Resource = (app, { registry, jobs: queue }) => {
  /** Ends every open stream: a server that stops does not wait for those who only watch. */
  const streams = new Set<() => void>();
  let closing = false;
  app.addHook("preClose", async () => {
    closing = true;
    for (const end of streams) end();
  });

  app.get(
    "/jobs",
    {
      schema: {
        tags: ["jobs"],
        summary: "List jobs, newest first",
        querystring: Query,
        response: { 200: Page(Job) },
      },
    },
    async request => {
      const { items, next_cursor } = await registry.listJobs(request.query);
      return { items: items.map(jobView), next_cursor };
    },
  );

  app.get(
    "/jobs/:id",
    { schema: { tags: ["jobs"], summary: "One job", params: IdParams, response: { 200: Job } } },
    async request => jobView(await registry.getJob(request.params.id)),
  );

  app.delete(
    "/jobs/:id",
    {
      schema: {
        tags: ["jobs"],
        summary: "Cancel a job; one that has ended stays as it is",
        params: IdParams,
        response: { 200: Job },
      },
    },
    async request => jobView(await queue.cancel(request.params.id)),
  );

  app.get(
    "/jobs/:id/events",
    {
      // It would be this very stream, without a body and without an end.
      exposeHeadRoute: false,
      schema: {
        tags: ["jobs"],
        summary: "A job's progress, states and lines as they come (server-sent events)",
        params: IdParams,
        headers: Type.Object({
          "last-event-id": Type.Optional(
            Type.String({
              description: "The id of the last event that was heard: what came behind it is sent.",
            }),
          ),
        }),
        response: { 200: { content: { "text/event-stream": { schema: Type.String() } } } },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const last = Number(request.headers["last-event-id"]);
      const news = newsOf(Number.isSafeInteger(last) ? last : 0);
      await registry.getJob(id);
      const send = (record: JobRecord) => {
        for (const { id, event, data } of news(record))
          reply.sse({ id: String(id), event, data: JSON.stringify(data) });
        if (record.ended_at !== null) end();
      };
      let turn = Promise.resolve();
      const look = () => {
        turn = turn.then(async () => send(await registry.getJob(id))).catch(end);
      };
      const unwatch = registry.watch(notice => {
        if (notice.kind === "reload" || (notice.kind === "job" && notice.id === id)) look();
      });
      const beat = setInterval(() => reply.sse({ comment: "still here" }), HEARTBEAT_MS);
      const end = () => {
        unwatch();
        clearInterval(beat);
        streams.delete(end);
        reply.sseContext?.source.end();
      };
      streams.add(end);
      // The stream is there, whether it has news or not.
      reply.sse({ comment: "watching" });
      whenGone(reply, end);
      if (closing) end();
      // Watched first, read behind that: an end that comes between is heard.
      look();
      return reply;
    },
  );
};

/**
 * What a watcher who knows of everything up to a revision has not heard, from one state of the record to the next. The
 * last event alone names the new revision: a connection that breaks before it hears all of them again.
 */
function newsOf(known: number) {
  let revision = known;
  let state = "";
  let progress = "";
  return (job: JobRecord): { id: number; event: string; data: unknown }[] => {
    if (job.revision <= revision) return [];
    const news: { event: string; data: unknown }[] = job.log
      .filter(line => line.revision > revision)
      .map(line => ({ event: "log", data: line }));
    if (job.progress && JSON.stringify(job.progress) !== progress)
      news.push({ event: "progress", data: job.progress });
    if (job.state !== state) news.push({ event: "state", data: jobView(job) });
    const ids = news.map((_, index) => (index < news.length - 1 ? revision : job.revision));
    revision = job.revision;
    state = job.state;
    progress = JSON.stringify(job.progress);
    return news.map((each, index) => ({ id: ids[index]!, ...each }));
  };
}
