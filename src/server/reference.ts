/** The OpenAPI 3.1 document and its page: made of the routes' schemas, and of what holds for every call. */
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifySchema } from "fastify";
import { ProblemDocument } from "../contract/common.ts";
import { EvaluationReport } from "../contract/evaluate.ts";
import { SearchReport } from "../contract/search.ts";
import { DonorsReport } from "../contract/transfer.ts";
import type { App } from "./dependencies.ts";

/** What is answered without a key. */
const open = [/^\/$/, /^\/(healthz|readyz|openapi\.json)\/?$/, /^\/docs(\/|$)/];
export const needsKey = (path: string): boolean => !open.some(pattern => pattern.test(path));

/** What jobs leave; no reply has them as its whole body. */
const reports: Record<string, object> = { EvaluationReport, SearchReport, DonorsReport };

const problem = {
  description: "A problem (RFC 9457); `code` is stable.",
  content: { "application/problem+json": { schema: ProblemDocument } },
};

export async function installReference(app: App, version: string, keyed: boolean): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Foreword",
        version,
        description: "One frozen language model, many tasks: each is a prompt put before the input.",
      },
      components: {
        schemas: reports,
        ...(keyed && { securitySchemes: { key: { type: "http", scheme: "bearer" } } }),
      },
      ...(keyed && { security: [{ key: [] }] }),
    },
    // Problems are told here alone: a schema of the route's own would drop the members that it does not name.
    transform: ({ schema, url }) => ({
      url,
      schema: {
        ...schema,
        response: { ...(schema.response as object), default: problem },
        ...(keyed && !needsKey(url) && { security: [] }),
      } as FastifySchema,
    }),
    transformObject: document =>
      "openapiObject" in document ? withOptionalBodies(document.openapiObject) : document.swaggerObject,
  });
  await app.register(swaggerUi, { routePrefix: "/docs" });
  app.get("/openapi.json", { schema: { hide: true } }, () => app.swagger());
  app.get("/", { schema: { hide: true } }, (_, reply) => reply.redirect("/docs"));
}

interface Operation {
  requestBody?: { required?: boolean; content: Record<string, { schema?: { anyOf?: { type?: string }[] } }> };
}

/** A body that may be null may be left out; the generator calls every body required. */
function withOptionalBodies<Document extends { paths?: object }>(document: Document): Document {
  const operations = Object.values(document.paths ?? {}).flatMap(path => Object.values(path as object));
  for (const { requestBody } of operations as Operation[])
    if (requestBody?.content["application/json"]?.schema?.anyOf?.some(({ type }) => type === "null"))
      requestBody.required = false;
  return document;
}
