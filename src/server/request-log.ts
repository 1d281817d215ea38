import { type FastifyReply, type FastifyRequest, LogController } from "fastify";

/** Asked every few seconds by whoever runs the server. */
const probes: ReadonlySet<string | undefined> = new Set(["/healthz", "/readyz", "/metrics"]);

/** One line a request, when it is answered. */
export class RequestLog extends LogController {
  override incomingRequest(): void {}

  override requestCompleted(err: Error | null, request: FastifyRequest, reply: FastifyReply): void {
    const level = err ? "error" : probes.has(request.routeOptions.url) ? "debug" : "info";
    const ms = Math.round(reply.elapsedTime);
    request.log[level]({ req: request, res: reply, ms, ...(err && { err }) }, "answered");
  }
}
