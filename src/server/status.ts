import { Type } from "typebox";
import { BackboneReport } from "../contract/backbone.ts";
import type { EngineStatistics } from "../engine/engine.ts";
import { withLearning } from "../gate/choice.ts";
import { growth } from "../observe/growth.ts";
import type { OpenJob } from "../registry/registry.ts";
import type { Resource } from "./dependencies.ts";

const Health = Type.Object({ status: Type.Literal("ok"), version: Type.String() });
const Readiness = Type.Object({
  status: Type.Enum(["ready", "degraded", "loading", "failed", "draining"], {
    description: "degraded: tasks that were asked lately answer, and nothing can be written.",
  }),
  phase: Type.String({ description: "What the server is doing." }),
  progress: Type.Union([Type.Number(), Type.Null()], { description: "0 to 1 where it can be known." }),
  error: Type.Optional(Type.String({ description: "Why it failed." })),
});

export const status: Resource = (app, { engine, registry, metrics, version, library, draining }) => {
  app.get(
    "/healthz",
    { schema: { tags: ["status"], summary: "Whether the process is up", response: { 200: Health } } },
    () => ({ status: "ok" as const, version }),
  );

  app.get(
    "/readyz",
    {
      schema: {
        tags: ["status"],
        summary: "Whether infer can answer",
        response: { 200: Readiness, 503: Readiness },
      },
    },
    async (_request, reply) => {
      const state = engine.state();
      const loaded = state.status === "ready" ? library() : state;
      if (draining() || loaded.status !== "ready") {
        reply.code(503);
        return { ...loaded, ...(draining() && { status: "draining" as const }) };
      }
      const degraded = { status: "degraded" as const, phase: "answering from memory: the registry is away" };
      return { ...loaded, ...(!registry.reachable() && degraded) };
    },
  );

  app.get(
    "/backbone",
    { schema: { tags: ["status"], summary: "The model that answers", response: { 200: BackboneReport } } },
    async () => {
      const { prefixBytes } = await engine.statistics();
      const report = withLearning(engine.backbone());
      return { ...report, memory: { ...report.memory, prefix_cache_bytes: prefixBytes } };
    },
  );

  /** The engine counts for itself; its totals are taken over when somebody looks. */
  const grownBy = growth<keyof EngineStatistics>();
  /** Out of the registry: the same on every server, and nothing where it is not known. */
  async function countJobs(): Promise<void> {
    const open = await registry.openJobs().catch(() => null);
    metrics.jobs.reset();
    if (open === null) return;
    const mine = engine.state().status === "ready" ? engine.backbone().fingerprint : undefined;
    const fits = ({ backbone = mine }: OpenJob) => mine === undefined || backbone === mine;
    const runnable = new Set(open.filter(fits).map(({ task }) => task)).size;
    metrics.jobs.set({ state: "runnable" }, runnable);
    metrics.jobs.set({ state: "waiting" }, open.length - runnable);
  }
  app.get(
    "/metrics",
    {
      schema: {
        tags: ["status"],
        summary: "Prometheus metrics",
        response: { 200: { content: { "text/plain": { schema: Type.String() } } } },
      },
    },
    async (_request, reply) => {
      if (engine.state().status === "ready") {
        const now = await engine.statistics();
        const grown = grownBy(now);
        metrics.inferTokens.inc({ phase: "prefill" }, grown.prefillTokens);
        metrics.inferTokens.inc({ phase: "decode" }, grown.decodeTokens);
        metrics.prefixHits.inc(grown.prefixHits);
        metrics.prefixMisses.inc(grown.prefixMisses);
        metrics.steps.inc(grown.steps);
        metrics.stepSeconds.inc(grown.stepSeconds);
        metrics.queueDepth.set(now.queued);
        metrics.runningRows.set(now.running);
        metrics.prefixBytes.set(now.prefixBytes);
        const { name, backend, version: runtimeVersion } = engine.backbone().runtime;
        metrics.runtimeInfo.set({ runtime: name, backend, version: runtimeVersion }, 1);
      } else {
        metrics.queueDepth.set(0);
        metrics.runningRows.set(0);
      }
      await countJobs();
      return reply.type(metrics.register.contentType).send(await metrics.register.metrics());
    },
  );
};
