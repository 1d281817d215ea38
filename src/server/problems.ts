/** Everything that goes wrong leaves as RFC 9457 problem details. */
import type { FastifyError, FastifyReply, FastifyRequest, FastifySchemaValidationError } from "fastify";
import { idForm } from "../contract/common.ts";
import { ForewordError, type Problem, type ProblemCode } from "../errors.ts";
import type { App } from "./dependencies.ts";

export const malformed = (why: string): ForewordError =>
  new ForewordError("malformed_json", `The body is not JSON: ${why}. Send one JSON document in UTF-8.`);

/** What is said about a text that should be an id. */
export const noId = `is no id. ${idForm.description}`;

const known: Readonly<Record<string, (error: FastifyError, request: FastifyRequest) => ForewordError>> = {
  FST_ERR_CTP_INVALID_JSON_BODY: () =>
    malformed("it does not parse, or it has a member named __proto__ or constructor.prototype"),
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
  FST_ERR_BAD_URL: () =>
    new ForewordError(
      "validation",
      "The path has a % that no character's code follows. Write a % itself as %25.",
      { field: "path" },
    ),
  FST_ERR_MAX_PARAM_LENGTH: () =>
    new ForewordError("validation", "The path has a part that is too long. Ids have at most 64 characters.", {
      field: "path",
    }),
};

export function installProblems(app: App): void {
  app.setErrorHandler((error: FastifyError, request, reply) => {
    // Closing the connection would break off what the caller is still sending, and it would never read why.
    if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") reply.removeHeader("connection");
    return sendProblem(reply, request, toForewordError(error, request));
  });
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

/** What the router refuses before there is a route. */
export const frameworkErrors = (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
  sendProblem(reply, request, toForewordError(error, request));
};

/** Does the work; a problem that it meets names the field of the request that it is about. */
export async function inField<Result>(field: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ForewordError)) throw error;
    throw ForewordError.fromProblem({ ...error.toProblem(), detail: `${field}: ${error.message}`, field });
  }
}

/** The problem document of whatever was thrown; the cause of a failure of ours goes into the log. */
export function problemOf(error: unknown, request: FastifyRequest): Problem {
  const problem = ForewordError.from(error);
  if (problem.status >= 500 && problem.cause) request.log.error({ err: problem.cause }, "a request failed");
  return problem.toProblem(request.url);
}

/** What may be over in a moment. */
const passing = new Set<ProblemCode>(["queue_full", "not_ready", "registry_unavailable"]);

export function sendProblem(
  reply: FastifyReply,
  request: FastifyRequest,
  error: ForewordError,
): FastifyReply {
  if (passing.has(error.code)) reply.header("Retry-After", "1");
  if (error.code === "unauthorized") reply.header("WWW-Authenticate", "Bearer");
  return reply.code(error.status).type("application/problem+json").send(problemOf(error, request));
}

function toForewordError(error: FastifyError, request: FastifyRequest): ForewordError {
  if (error instanceof ForewordError) return error;
  if (error.validation) {
    const where = error.validationContext ?? "request";
    return invalid(
      telling(error.validation),
      where,
      propertiesOf(request.routeOptions.schema?.[where as "body"]),
    );
  }
  const make = known[error.code];
  if (make) return make(error, request);
  if (error.statusCode !== undefined && error.statusCode < 500)
    return new ForewordError("validation", error.message);
  return ForewordError.from(error);
}

/** What is wrong inside a value; null if the value as a whole is of no kind that is taken. */
export function violatedWithin(
  violations: readonly FastifySchemaValidationError[],
  where: string,
): ForewordError | null {
  if (violations.every(({ instancePath }) => instancePath === "")) return null;
  return invalid(telling(violations), where);
}

const propertiesOf = (schema: unknown): string[] =>
  Object.keys((schema as { properties?: object } | undefined)?.properties ?? {});

/**
 * The violation to report out of those of a choice, which has one for each form. The form that was meant is the one that
 * was followed furthest; if all fail at once, their violations together say what is taken.
 */
function telling(violations: readonly FastifySchemaValidationError[]): FastifySchemaValidationError {
  const depth = ({ instancePath }: FastifySchemaValidationError) => instancePath.split("/").length;
  const deepest = Math.max(...violations.map(depth));
  const last = violations.filter(each => depth(each) === deepest && each.keyword !== "anyOf");
  // An object whose members are wrong is of the forms that are objects.
  const unknown = last.find(({ keyword }) => keyword === "additionalProperties");
  if (unknown) return unknown;
  const misnamed = last.find(({ keyword }) => keyword === "propertyNames");
  if (misnamed) return { ...misnamed, message: misnaming(misnamed, last) };
  const incomplete = last.filter(({ keyword }) => keyword === "required");
  const there = incomplete.length > 0 ? incomplete : last;
  const all = (keyword: string) => there.every(each => each.keyword === keyword);
  const either = (name: string) => [...new Set(there.map(({ params }) => params[name]))].join(" or ");
  if (all("required")) return { ...there[0]!, params: { missingProperty: either("missingProperty") } };
  if (all("type")) return { ...there[0]!, message: `must be ${either("type")}` };
  if (there.some(({ keyword }) => keyword === "enum" || keyword === "const"))
    return { ...there[0]!, keyword: "enum", params: { allowedValues: [...new Set(there.flatMap(allowed))] } };
  return there.findLast(({ keyword }) => keyword !== "type")!;
}

/** A member's name, and what is wrong with it, which another violation tells. */
function misnaming(
  { params }: FastifySchemaValidationError,
  all: readonly (FastifySchemaValidationError & { propertyName?: string })[],
): string {
  const name = String(params.propertyName);
  const why = all.find(({ propertyName }) => propertyName === name)?.message ?? "is not valid";
  return `has the name ${JSON.stringify(name.slice(0, 40))}, which ${why}`;
}

/** What one form of a choice takes. */
function allowed({ keyword, params }: FastifySchemaValidationError): unknown[] {
  if (keyword === "enum") return params.allowedValues as unknown[];
  if (keyword === "const") return [params.allowedValue];
  if (keyword !== "type") return [];
  if (params.type === "boolean") return [true, false];
  return [`${/^[aio]/.test(String(params.type)) ? "an" : "a"} ${params.type}`];
}

/** One schema violation in words: which field, what is allowed, what to do. */
function invalid(
  { instancePath, keyword, params, message }: FastifySchemaValidationError,
  where: string,
  known: readonly string[] = [],
): ForewordError {
  const path = instancePath.slice(1).replaceAll("/", ".");
  const named = (name: unknown) => (path === "" ? String(name) : `${path}.${name}`);
  const [field, what] =
    keyword === "required"
      ? [named(params.missingProperty), "is missing. Send it."]
      : keyword === "additionalProperties"
        ? [
            named(params.additionalProperty),
            path === "" && known.length > 0
              ? `is not known. Leave it out; known are ${known.join(", ")}.`
              : "is not known. Leave it out.",
          ]
        : keyword === "enum"
          ? [path, `must be one of ${(params.allowedValues as unknown[]).join(", ")}.`]
          : keyword === "pattern" && params.pattern === idForm.pattern
            ? [path || where, noId]
            : [path || where, `${message ?? "is not valid"}.`];
  return new ForewordError("validation", `${where}: ${field} ${what}`, { field, where });
}
