/** Everything that goes wrong leaves as RFC 9457 problem details. */
import type { FastifyError, FastifyReply, FastifyRequest, FastifySchemaValidationError } from "fastify";
import { ForewordError } from "../errors.ts";
import type { App } from "./dependencies.ts";

const known: Readonly<Record<string, (error: FastifyError, request: FastifyRequest) => ForewordError>> = {
  FST_ERR_CTP_INVALID_JSON_BODY: error =>
    new ForewordError(
      "malformed_json",
      `The body is not JSON: ${error.message}. Send one JSON document in UTF-8.`,
    ),
  FST_ERR_CTP_EMPTY_JSON_BODY: () =>
    new ForewordError(
      "malformed_json",
      "The body is empty. Send one JSON document, or leave out the content type.",
    ),
  FST_ERR_CTP_BODY_TOO_LARGE: (_, request) => {
    const limit = request.routeOptions.bodyLimit;
    return new ForewordError(
      "body_too_large",
      `The body has more than ${limit} bytes, the limit (FOREWORD_BODY_LIMIT). Send less at a time.`,
      { limit },
    );
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: (_, request) => {
    const type = request.headers["content-type"] ?? "none";
    return new ForewordError(
      "unsupported_media_type",
      `The content type ${type} is not taken here. Send application/json.`,
    );
  },
};

export function installProblems(app: App): void {
  app.setErrorHandler((error: FastifyError, request, reply) =>
    sendProblem(reply, request, toForewordError(error, request)),
  );
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?")[0]!;
    const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"].filter(
      method => app.findRoute({ method: method as "GET", url: path }) !== null,
    );
    const error =
      methods.length > 0
        ? new ForewordError(
            "method_not_allowed",
            `${path} takes ${methods.join(", ")}, not ${request.method}.`,
          )
        : new ForewordError("not_found", `There is nothing at ${path}. GET /docs lists what there is.`);
    if (methods.length > 0) reply.header("Allow", methods.join(", "));
    return sendProblem(reply, request, error);
  });
}

export function sendProblem(
  reply: FastifyReply,
  request: FastifyRequest,
  error: ForewordError,
): FastifyReply {
  if (error.code === "queue_full" || error.code === "not_ready" || error.code === "rate_limited")
    reply.header("Retry-After", "1");
  if (error.code === "unauthorized") reply.header("WWW-Authenticate", "Bearer");
  return reply.code(error.status).type("application/problem+json").send(error.toProblem(request.url));
}

function toForewordError(error: FastifyError, request: FastifyRequest): ForewordError {
  if (error instanceof ForewordError) return error;
  if (error.validation) return invalid(error.validation[0]!, error.validationContext ?? "request");
  const make = known[error.code];
  if (make) return make(error, request);
  if (error.statusCode !== undefined && error.statusCode < 500)
    return new ForewordError("validation", error.message);
  request.log.error({ err: error }, "a request failed");
  return ForewordError.from(error);
}

/** One schema violation in words: which field, what is allowed, what to do. */
function invalid(
  { instancePath, keyword, params, message }: FastifySchemaValidationError,
  where: string,
): ForewordError {
  const path = instancePath.slice(1).replaceAll("/", ".");
  const named = (name: unknown) => (path === "" ? String(name) : `${path}.${name}`);
  const [field, what] =
    keyword === "required"
      ? [named(params.missingProperty), "is missing. Send it."]
      : keyword === "additionalProperties"
        ? [named(params.additionalProperty), "is not known. Leave it out."]
        : keyword === "enum"
          ? [path, `must be one of ${(params.allowedValues as unknown[]).join(", ")}.`]
          : [path || where, `${message ?? "is not valid"}.`];
  return new ForewordError("validation", `${where}: ${field} ${what}`, { field, where });
}
