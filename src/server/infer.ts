import { setMaxListeners } from "node:events";
import type { FastifyReply, FastifyRequest, FastifySchemaValidationError } from "fastify";
import pMap from "p-map";
import { Type } from "typebox";
import { IdParams } from "../contract/common.ts";
import { InferReplies, InferReply, InferRequest, Input } from "../contract/infer.ts";
import type { Task } from "../contract/task.ts";
import type { InferOptions } from "../engine/engine.ts";
import { ForewordError, invalid, type ProblemCode, shuttingDown } from "../errors.ts";
import { answer, checkRequest } from "./answer.ts";
import type { Resource } from "./dependencies.ts";
import { whenGone } from "./gone.ts";
import { problemOf, violatedWithin } from "./problems.ts";

/** Problems of the server, or of its task, whatever the input. */
const ofServer: readonly ProblemCode[] = [
  "not_ready",
  "backbone_unavailable",
  "draining",
  "registry_unavailable",
  "task_not_found",
  "no_active_prompt",
];
/** Problems of the prompt that answers. They concern all inputs, unless a split shares those out. */
const ofPrompt: readonly ProblemCode[] = ["prompt_not_found", "backbone_mismatch"];

export const infer: Resource = (app, dependencies) => {
  const { config, serving, shadows, metrics, draining } = dependencies;
  const isInput = app.validatorCompiler!({
    schema: Input,
    method: "POST",
    url: "/tasks/:id/infer",
    httpPart: "body",
  });

  app.post(
    "/tasks/:id/infer",
    {
      schema: {
        tags: ["infer"],
        summary: "Answer one input, a list of up to 256, or stream a generation",
        params: IdParams,
        body: InferRequest,
        response: {
          200: {
            description: "With `stream`, events: token, done (the whole reply), error (a problem).",
            content: {
              "application/json": { schema: Type.Union([InferReply, InferReplies]) },
              "text/event-stream": { schema: Type.String() },
            },
          },
        },
      },
      // Replies are made of our own numbers; serialising by a union of schemas would only drop what they don't name.
      serializerCompiler: () => data => JSON.stringify(data),
    },
    async (request, reply) => {
      if (draining()) throw shuttingDown();
      const { body } = request;
      const options = {
        deadline: Date.now() + (body.timeout_ms ?? config.timeoutMs),
        signal: goneSignal(reply),
      };
      const task = await serving.task(request.params.id);
      checkRequest(task, body);
      const inputs = inputsOf(body);
      const split = body.prompt === undefined && task.active?.split !== undefined;
      const one = async (input: unknown, onToken?: InferOptions["onToken"]) => {
        if (isInput(input) === false)
          throw (
            violatedWithin((isInput as { errors?: FastifySchemaValidationError[] }).errors ?? [], "input") ??
            invalid("input", "send a text, or an object with a text for each field.")
          );
        const wanted = { ...options, ...(onToken && { onToken }) };
        const replied = await answer(dependencies, task, body, input as Input, wanted);
        metrics.inferRows.inc();
        if (split && "version" in replied.prompt)
          metrics.splitAnswers.inc({ task: task.id, version: replied.prompt.version });
        shadows.follow(task, body, input as Input, replied);
        return replied;
      };
      if (body.stream) return stream(task, body, reply, onToken => one(inputs[0], onToken));
      if (body.inputs === undefined) return one(inputs[0]);
      // Half of the queue is left to others, and no list is too long for it.
      const concurrency = Math.max(1, Math.floor(config.queue / 2 / membersOf(task, body)));
      const ofAll = split ? ofServer : [...ofServer, ...ofPrompt];
      const results = await pMap(inputs, input => orProblem(() => one(input), ofAll, request), {
        concurrency,
      });
      return { results } as never;
    },
  );
};

/** Prompts that answer each input. */
function membersOf({ active }: Task, { prompt }: InferRequest): number {
  const chosen = typeof prompt === "object" ? prompt.ensemble : prompt === undefined && active?.ensemble;
  return chosen ? chosen.length : 1;
}

function inputsOf({ input, inputs }: InferRequest): readonly unknown[] {
  if ((input === undefined) === (inputs === undefined))
    throw invalid("input", "send exactly one of input and inputs.");
  return inputs ?? [input];
}

/** A bad input of a list is a problem in its place, and the others are answered; what all of them meet is the reply. */
async function orProblem<Reply>(
  make: () => Promise<Reply>,
  ofAll: readonly ProblemCode[],
  request: FastifyRequest,
) {
  try {
    return await make();
  } catch (error) {
    // A stored file that is lost, or damaged, is one version's, though it has the registry's code.
    if (error instanceof ForewordError && ofAll.includes(error.code) && error.fields.blob === undefined)
      throw error;
    return { error: problemOf(error, request) };
  }
}

/** Aborted when the caller goes away before the reply is whole. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  // Each input of a list listens, and each member of an ensemble.
  setMaxListeners(0, controller.signal);
  whenGone(reply, () => controller.abort());
  return controller.signal;
}

type Start = (onToken: NonNullable<InferOptions["onToken"]>) => Promise<InferReply>;

/** Events as they come. What is refused before the first of them is refused as any other request is. */
async function stream(task: Task, body: InferRequest, reply: FastifyReply, start: Start): Promise<never> {
  if (task.type !== "generation")
    throw new ForewordError("validation", "stream is not for a classification task. Leave it out.", {
      field: "stream",
    });
  if (body.inputs)
    throw new ForewordError("validation", "stream takes one input. Send input, not inputs.", {
      field: "stream",
    });
  const send = (event: string, data: unknown) => reply.sse({ event, data: JSON.stringify(data) });
  try {
    send(
      "done",
      await start(token => (token.text !== "" || token.logprob !== undefined) && send("token", token)),
    );
  } catch (error) {
    if (!reply.sseContext) throw error;
    send("error", problemOf(error, reply.request));
  }
  reply.sseContext?.source.end();
  return reply as never;
}
