/** From a request to everything that decides a run. The defaults were chosen by a sweep: docs/decisions.md. */
import type { Example } from "../contract/dataset.ts";
import type { Init, Metric, TrainMethod } from "../contract/train.ts";
import type { PromptContent } from "../engine/engine.ts";
import type { TextCodec } from "../prompt/codec.ts";
import { readPromptFile } from "../prompt/file.ts";
import { softLengths } from "../prompt/layout.ts";
import { type CompiledTemplate, compileTemplate, hasSlots } from "../prompt/template.ts";
import { spelledOut } from "../prompt/verbalizer.ts";
import { tokensOf } from "./batches.ts";
import { checkLength, checkRequest, labelsOf } from "./check.ts";
import type { TrainJob } from "./job.ts";
import type { TrainingRow } from "./rows.ts";
import { fitIds, startIds } from "./start.ts";
import type { TrainSettings } from "./trainer.ts";

/** A run sees about this many tokens unless it is told otherwise: minutes on two cores. */
const TOKENS = { fp32: 200_000, int8: 300_000 } as const;
const STEPS = { least: 150, most: 1000 };
/** Many labels take longer to be learnt: a run's tokens and steps grow with them, from `from` to `most` times as many. */
const LABELS = { from: 50, most: 1.4 };
/**
 * Passes over the examples: more than `most` teach nothing new, from `slow` on a prefix is trained at half the rate,
 * but for many labels. A prefix learns labels sooner; the least steps are `slow` passes over some 300 examples.
 */
const PASSES = { labels: { most: 6, slow: 8 }, other: { most: 20, slow: 20 } } as const;
const LENGTH = { least: 16, most: 64 };
/** Examples of a step: fewer of long ones, so that a run of the least steps stays near its tokens. */
const BATCH = { least: 4, most: 16 };
/** Tokens of one run of the gradient graph: about half a second of work. Its memory is bounded apart (bytes.ts). */
const MICRO_TOKENS = { fp32: 320, int8: 512 } as const;

/** Learning rates, relative to a tensor's size (trainer.ts). */
const rates = { prefix: { usual: 0.02, slow: 0.01 }, soft: { usual: 0.1, slow: 0.1 } } as const;

export interface Plan {
  method: TrainMethod;
  /** The new prompt's. */
  template: CompiledTemplate;
  softLengths: readonly number[];
  /** Token ids that the trained positions begin as; null where another prompt or chance decides. */
  ids: readonly number[];
  init: Init;
  labelSmoothing: number;
  classWeights: ReadonlyMap<string, number>;
  maxTokens: number;
  metric: Metric;
  patience: number;
}

/** Throws `validation` and `bad_template` naming the field. `vocabulary`: tokens in all. */
export function planOf(
  { request, template: source, task, initial }: Pick<TrainJob, "request" | "template" | "task" | "initial">,
  train: readonly Example[],
  codec: TextCodec,
  vocabulary: number,
): Plan {
  const { method = "prefix", init = "examples", length } = request;
  const given = compileTemplate(source);
  checkRequest(request, given, task);
  const slots = hasSlots(given);
  const ids = startIds({
    init,
    initial,
    template: given,
    task,
    examples: train,
    codec,
    vocabulary,
    seed: request.seed ?? 0,
  });
  const positions =
    length ?? virtualTokens(initial) ?? Math.min(LENGTH.most, Math.max(LENGTH.least, ids.length));
  const rest = source.slice(wordsBeforeField(given).length);
  const template =
    method === "prefix"
      ? compileTemplate(rest)
      : slots
        ? given
        : compileTemplate(`{{ soft(${positions}) }}${rest}`);
  const lengths = softLengths(template, codec);
  const wanted = method === "prefix" ? positions : lengths.reduce((sum, each) => sum + each, 0);
  checkLength(length, wanted);
  return {
    method,
    template,
    softLengths: lengths,
    ids: slots && method === "soft" ? slotIds(template, lengths, ids, codec) : fitIds(ids, wanted),
    init,
    labelSmoothing: request.label_smoothing ?? 0,
    classWeights: classWeights(request.class_weights, train),
    maxTokens: request.max_tokens ?? 1024,
    metric: request.metric ?? (task.type === "generation" ? "loss" : "accuracy"),
    patience: request.patience ?? 4,
  };
}

/** The task with what stands for its labels in this prompt. */
export function withVerbalizers({
  task,
  template,
  verbalizers,
}: Pick<TrainJob, "task" | "template" | "verbalizers">): TrainJob["task"] {
  if (task.labels === null || verbalizers === null) return task;
  return { ...task, labels: spelledOut(task.labels, compileTemplate(template), verbalizers) };
}

/** Each slot begins as its own start text, or as what `init` gave. */
function slotIds(
  { pieces }: CompiledTemplate,
  lengths: readonly number[],
  ids: readonly number[],
  codec: TextCodec,
): number[] {
  const slots = pieces.filter(piece => piece.kind === "soft");
  return slots.flatMap(({ start }, index) =>
    fitIds(start === null ? ids : codec.encodeWithSpecials(start, { first: true }), lengths[index]!),
  );
}

/** The text that a prefix, or a slot, takes the place of. */
export function wordsBeforeField({ pieces }: CompiledTemplate): string {
  const [first] = pieces;
  return first?.kind === "literal" ? first.text : "";
}

/** Virtual tokens of the prompt that `init` names, or null where it has none. */
function virtualTokens(initial: PromptContent | null): number | null {
  return (initial?.parameters && readPromptFile(initial.parameters).soft?.dims[0]) ?? null;
}

/** Balanced: n / (labels · n of the label), so that the weights' mean over the examples is 1. */
function classWeights(
  wanted: TrainJob["request"]["class_weights"],
  examples: readonly Example[],
): ReadonlyMap<string, number> {
  if (wanted === undefined) return new Map();
  if (wanted !== "balanced") return new Map(Object.entries(wanted));
  const counts = new Map<string, number>();
  for (const example of examples)
    if ("label" in example) counts.set(example.label, (counts.get(example.label) ?? 0) + 1);
  return new Map([...counts].map(([label, count]) => [label, examples.length / (counts.size * count)]));
}

/** Examples that a run's steps read at most. */
export const mostRead = ({
  steps = Math.round(LABELS.most * STEPS.most),
  batch_size = BATCH.most,
}: TrainJob["request"]): number => steps * batch_size;

/** The optimiser's and the loop's numbers, which depend on how long the examples are, and what leads each step. */
export function settingsOf(
  { request, task, teacher }: TrainJob,
  plan: Plan,
  examples: readonly (readonly TrainingRow[])[],
  precision: keyof typeof MICRO_TOKENS,
  lead: TrainingRow | null = null,
): TrainSettings {
  const tokens = examples.reduce((sum, rows) => sum + tokensOf(rows), 0) / examples.length;
  const fitting = Math.floor(TOKENS[precision] / (STEPS.least * tokens));
  const usual = Math.max(BATCH.least, Math.min(BATCH.most, fitting));
  const batchSize = Math.min(request.batch_size ?? usual, examples.length);
  const more = Math.min(LABELS.most, Math.max(1, labelsOf(task).length / LABELS.from));
  const affordable = Math.round((more * TOKENS[precision]) / (tokens * batchSize + (lead?.length ?? 0)));
  const labels = plan.method === "prefix" && task.type === "classification" && teacher === null;
  const passes = PASSES[labels ? "labels" : "other"];
  const useful = Math.ceil((passes.most * examples.length) / batchSize);
  const steps =
    request.steps ?? Math.max(STEPS.least, Math.min(affordable, useful, Math.round(more * STEPS.most)));
  const slow = more === 1 && steps * batchSize >= passes.slow * examples.length;
  return {
    steps,
    batchSize,
    learningRate: request.learning_rate ?? rates[plan.method][slow ? "slow" : "usual"],
    warmup: request.warmup ?? Math.min(20, Math.floor(steps / 10)),
    optimizer: request.optimizer ?? "adamw",
    weightDecay: request.weight_decay ?? 0,
    clip: request.clip ?? 1,
    seed: request.seed ?? 0,
    microTokens: MICRO_TOKENS[precision],
    average: 0.98,
  };
}
