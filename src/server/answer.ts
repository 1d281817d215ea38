/** One input, answered: the request's settings become engine requests, the engine's answers become the reply. */
import type { InferReply, InferRequest, Input, TargetScore, Usage } from "../contract/infer.ts";
import type { Task } from "../contract/task.ts";
import type { ClassifyAnswer, Engine, GenerateRequest, InferOptions } from "../engine/engine.ts";
import { promised } from "../engine/json-schema.ts";
import { logSumExp } from "../engine/sampler.ts";
import { ForewordError, invalid } from "../errors.ts";
import { agreement, best, calibrate, isUnsure, ranked, type Scores, vote } from "../prompt/votes.ts";
import { checkVote, type Route, route } from "./routing.ts";
import type { ServedPrompt, Serving } from "./serving.ts";
import { checkCompatible } from "./views.ts";

/** Labels that `scores: "all"` lists at most. */
const LISTED = 32;

/** Settings that only one type of task has. */
const ofGeneration = [
  "max_tokens",
  "temperature",
  "top_p",
  "top_k",
  "repetition_penalty",
  "stop",
  "seed",
  "logprobs",
  "json_schema",
  "choices",
] as const;
const ofClassification = ["scores", "members"] as const;

export function checkRequest(task: Task, request: InferRequest): void {
  const wrong = (task.type === "classification" ? ofGeneration : ofClassification).find(
    field => request[field] !== undefined,
  );
  if (wrong)
    throw new ForewordError("validation", `${wrong} is not for a ${task.type} task. Leave it out.`, {
      field: wrong,
    });
  if (request.choices && request.json_schema)
    throw new ForewordError("validation", "choices and json_schema exclude each other. Send one of them.", {
      field: "choices",
    });
  if (request.json_schema) promised(request.json_schema);
  if (request.stop?.length && (request.choices ?? request.json_schema))
    throw invalid(
      "stop",
      "a text of choices or json_schema ends where it is whole; nothing stops it before. Leave stop out.",
    );
  if (typeof request.prompt === "object") checkVote(request.prompt, "prompt.");
  if (task.type === "generation" && typeof request.prompt === "object")
    throw invalid("prompt", "ensembles answer classification tasks; this one generates text.");
}

export interface Answering {
  engine: Engine;
  serving: Serving;
}

export async function answer(
  services: Answering,
  task: Task,
  request: InferRequest,
  input: Input,
  options: InferOptions,
): Promise<InferReply> {
  const chosen = route(task, request);
  const prompts = await Promise.all(chosen.versions.map(version => served(services, task, version)));
  return task.type === "classification"
    ? classify(services.engine, task, request, input, chosen, prompts, options)
    : generate(services.engine, task, request, input, prompts[0]!, options);
}

async function served({ engine, serving }: Answering, task: Task, version: number): Promise<ServedPrompt> {
  const prompt = await serving.prompt(task, version);
  checkCompatible(prompt.record, engine);
  return prompt;
}

const shared = (prompt: ServedPrompt, request: InferRequest, input: Input) => ({
  prompt: prompt.digest,
  fields: input,
  ...(request.truncate && { truncate: request.truncate }),
  ...(request.targets && { targets: request.targets }),
});

async function classify(
  engine: Engine,
  task: Task,
  request: InferRequest,
  input: Input,
  chosen: Route,
  prompts: readonly ServedPrompt[],
  options: InferOptions,
): Promise<InferReply> {
  const { fitted } = chosen;
  // A bias or a vote can lift any label, so they need all scores; a temperature alone needs their sum.
  const all = request.scores === "all" || chosen.vote !== null || Object.keys(fitted).length > 0;
  const answers = await Promise.all(
    prompts.map(prompt =>
      engine.infer(
        {
          kind: "classify",
          ...shared(prompt, request, input),
          labels: prompt.labels,
          scores: all ? "all" : "top",
        },
        options,
      ),
    ),
  );
  const members = answers.map(({ scores }) =>
    all ? calibrate(asMap(scores), fitted) : probabilities(scores),
  );
  const scores = chosen.vote === null ? members[0]! : vote(members, chosen.vote, chosen.weights);
  const label = best(scores);
  const agreed = chosen.vote === null ? null : agreement(members, label);
  const listed = request.scores === "all" ? LISTED : 1;
  return {
    task: task.id,
    label: isUnsure(scores, members, fitted) ? null : label,
    scores: ranked(scores, listed),
    ...(request.targets && { targets: voted(answers, chosen.weights) }),
    prompt: chosen.vote === null ? one(prompts[0]!) : { ensemble: [...chosen.versions], vote: chosen.vote },
    ...(agreed !== null && { agreement: agreed }),
    ...(request.members &&
      chosen.vote !== null && {
        members: members.map((member, index) => ({
          version: chosen.versions[index]!,
          label: best(member),
          scores: ranked(member, LISTED),
        })),
      }),
    usage: sum(answers.map(({ usage }) => usage)),
  };
}

async function generate(
  engine: Engine,
  task: Task,
  request: InferRequest,
  input: Input,
  prompt: ServedPrompt,
  options: InferOptions,
): Promise<InferReply> {
  const wanted: GenerateRequest = {
    kind: "generate",
    ...shared(prompt, request, input),
    maxTokens: request.max_tokens ?? 64,
    temperature: request.temperature ?? 0,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    repetitionPenalty: request.repetition_penalty ?? 1,
    stop: request.stop ?? [],
    logprobs: request.logprobs ?? null,
    ...(request.seed !== undefined && { seed: request.seed }),
    ...(request.json_schema && { jsonSchema: request.json_schema }),
    ...(request.choices && { choices: request.choices }),
  };
  const { text, finishReason, logprobs, targets, usage } = await engine.infer(wanted, options);
  return {
    task: task.id,
    text,
    finish_reason: finishReason,
    ...(logprobs && { logprobs }),
    ...(targets && { targets }),
    prompt: one(prompt),
    usage,
  };
}

/** log P of each target by the mean of its probabilities, as a vote counts them; a single prompt's own. */
function voted(answers: readonly ClassifyAnswer[], weights: readonly number[]): TargetScore[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return answers[0]!.targets!.map((first, at) => {
    if (answers.length === 1) return first;
    const logs = answers.map(({ targets }, i) => targets![at]!.logprob + Math.log(weights[i]! / total));
    return { ...first, logprob: logSumExp(logs) };
  });
}

const one = ({ record }: ServedPrompt) => ({ version: record.version, kind: record.kind });
const asMap = (scores: ClassifyAnswer["scores"]): Map<string, number> =>
  new Map(scores.map(({ label, logprob }) => [label, logprob]));
const probabilities = (scores: ClassifyAnswer["scores"]): Scores =>
  new Map(scores.map(({ label, logprob }) => [label, Math.exp(logprob)]));

const sum = (usages: readonly Usage[]): Usage => {
  const total = (field: keyof Usage) => usages.reduce((all, usage) => all + usage[field], 0);
  return {
    input_tokens: total("input_tokens"),
    cached_tokens: total("cached_tokens"),
    output_tokens: total("output_tokens"),
  };
};
