/**
 * A whole training run: data, start, steps with validation, the best parameters kept, the prompt that they become.
 * Everything it does follows from the job and the checkpoint, never from the clock: a run that was stopped anywhere
 * ends in the same bits.
 */
import { createHash } from "node:crypto";
import { architectures } from "../backbone/architectures/index.ts";
import { classificationLoss, generationLoss } from "../backbone/objective.ts";
import type { Example } from "../contract/dataset.ts";
import { ForewordError, orElse } from "../errors.ts";
import type { Dtype } from "../prompt/file.ts";
import { basesOf } from "../prompt/stack.ts";
import { baseOf, inVariant } from "./based.ts";
import { type Parameter, pastLength } from "./batches.ts";
import { type Bench, begin } from "./begin.ts";
import { type Checkpoint, checkpointOf, written } from "./checkpoint.ts";
import { dataOf } from "./data.ts";
import { distillationOf, distilledRows, namedScores, type TeacherAnswer } from "./distil.ts";
import { layOutEnough } from "./enough.ts";
import { answersOfActive, compare } from "./evaluation/compare.ts";
import { judge } from "./evaluation/judge.ts";
import { forPeople, type Judged, scores, standardError } from "./evaluation/metrics.ts";
import { lostAsHalf } from "./half.ts";
import type { TrainHooks, TrainJob, TrainOutcome } from "./job.ts";
import { gradientsBehind, leadOf } from "./lead.ts";
import { type Plan, planOf, settingsOf, withVerbalizers } from "./plan.ts";
import { answersOf, withDonor } from "./prepare.ts";
import { curveOf, Pace } from "./progress.ts";
import { contextOf, layOut } from "./rows.ts";
import { SEEN, seenElsewhere, splitOf } from "./seen.ts";
import { sample } from "./split.ts";
import { promptFileOf } from "./start.ts";
import { notFinite, Trainer, type TrainerState, type TrainSettings } from "./trainer.ts";

/** Looks at validation while training, and examples of each. */
const LOOKS = 4;
const LOOK_EXAMPLES = 128;

/**
 * Throws `bad_dataset`, `validation`, `bad_tensor` (the loss is no number, before any look at validation), and what
 * `hooks.pause` throws. After a look the outcome is the best prompt that was found, with the reason in `failure`.
 */
export async function train(bench: Bench, asked: TrainJob, hooks: TrainHooks): Promise<TrainOutcome> {
  const { tokenizer, source, runtime, compiled } = bench;
  const left = checkpointOf(asked);
  const found = dataOf(asked, hooks.log);
  const job = await withDonor(bench, asked, found, hooks, left);
  const { distributions, answers, ...data } = await answersOf(bench, job, found, hooks, left);
  if (seenElsewhere(job)) hooks.log(SEEN);
  const task = withVerbalizers(job);
  const { config } = source;
  const plan = planOf({ ...job, task }, data.train, tokenizer, config.vocabSize);
  const base = await baseOf(bench, job.base);
  const start = base?.length ?? 0;
  const seed = job.request.seed ?? 0;
  const parameters = await begin(bench, plan, job.initial, seed, base);
  // Steps and rates follow from it: a run goes on as it began, on a processor that would choose another one too.
  const before = runtime.info.name === "onnx" ? left?.learning : undefined;
  const learning = await bench.variantOf(before ?? job.learning ?? compiled.precision);
  const lead = leadOf(plan, tokenizer, config, base);
  const room = config.maxPositions - start - pastLength(parameters);
  const context = contextOf(plan, task, tokenizer, room, { base: start, lead });
  const rowsOf: Parameters<typeof layOut>[4] = distributions
    ? (example, all) => distilledRows(example, namedScores(job.task, distributions.get(example)!), all)
    : undefined;
  const { rows, settings } = layOutEnough(
    data.train,
    seed,
    some => layOut(some, context, data.lineOf, "examples", rowsOf),
    all => settingsOf(job, plan, all, learning.precision, lead),
  );
  layOut(data.validation, context, data.lineOf, data.validationField);
  const step = architectures[config.architecture](config);
  const loss = job.task.type === "classification" ? classificationLoss(step) : generationLoss(step);
  const { pause } = hooks;
  const { method } = plan;
  const positions = parameters[0]!.dims[method === "prefix" ? 2 : 0];
  if (rows.length < data.train.length)
    hooks.log(
      `of ${data.train.length} examples ${rows.length} are trained on, by label and chance: the steps read no more`,
    );
  hooks.log(
    `training ${positions} positions on ${rows.length} examples: ${settings.steps} steps of ${settings.batchSize}, ${learning.precision}`,
  );
  const gradients = gradientsBehind(base && inVariant(base, compiled, learning, config), lead, {
    runtime,
    compiled: learning,
    config,
    loss,
    method,
    parameters,
    pause,
  });
  try {
    const trainer = new Trainer({ gradients, examples: rows, parameters, settings });
    const { validation, nameOf } = data;
    const run = new Run({
      bench,
      job,
      hooks,
      plan,
      settings,
      trainer,
      learning: learning.precision,
      validation,
      nameOf,
      answers,
      left,
      start,
    });
    const outcome = await run.toTheEnd(rows.length);
    if (job.teacher === null || outcome.failure) return outcome;
    return {
      ...outcome,
      distillation: await distillationOf(bench, job, job.teacher, outcome, data.validation),
    };
  } finally {
    await gradients.close();
  }
}

interface RunOptions {
  bench: Bench;
  job: TrainJob;
  hooks: TrainHooks;
  plan: Plan;
  settings: TrainSettings;
  trainer: Trainer;
  learning: TrainJob["learning"];
  validation: readonly Example[];
  nameOf: (example: Example) => string;
  answers: TeacherAnswer[] | null;
  left: Checkpoint | null;
  /** Positions of what the prompt is stacked on. */
  start: number;
}

class Run {
  readonly #options: RunOptions;
  /** What the looks on the way judge. */
  readonly #looked: readonly Example[];
  readonly #state: Pick<Checkpoint, "best" | "kept" | "looks" | "losses"> = {
    best: null,
    kept: null,
    looks: [],
    losses: [],
  };
  readonly #pace = new Pace();
  /** When it began, as if it had never been stopped. */
  #began = Date.now();

  constructor(options: RunOptions) {
    this.#options = options;
    this.#looked = sample(options.validation, LOOK_EXAMPLES, options.settings.seed);
    const { left } = options;
    if (left?.trainer) this.#resume(left.trainer, left);
  }

  async toTheEnd(examples: number): Promise<TrainOutcome> {
    const failure = await this.#steps().then(() => null, diverged);
    if (failure && this.#state.kept === null) throw failure;
    const { parameters, judged: exact } = this.#state.kept!;
    const best = this.#parametersOf(parameters);
    const { dtype, judged } = await this.#store(best, exact);
    const { validation, better, few } = await this.#compare(judged);
    const recipe = {
      method: this.#options.plan.method,
      template: this.#options.job.template,
      init: this.#options.plan.init,
      ...this.#options.job.request,
      ...this.#options.settings,
      split_seed: this.#options.job.splitSeed,
      split: splitOf(this.#options.job),
      data: dataDigest(this.#options.job),
    };
    return {
      file: this.#file(best, recipe, dtype),
      template: this.#options.plan.template.source,
      recipe,
      metrics: {
        metric: this.#options.plan.metric,
        validation: validation.new,
        validation_examples: this.#options.validation.length,
        training_examples: examples,
        kept_step: this.#state.kept!.step,
        stored: dtype,
        looks: this.#state.looks,
        curve: curveOf(this.#state.losses),
        seconds: Math.round((Date.now() - this.#began) / 1000),
      },
      validation,
      better,
      few,
      distillation: null,
      failure: failure?.toProblem() ?? null,
    };
  }

  async #steps(): Promise<void> {
    const { steps } = this.#options.settings;
    const every = Math.ceil(steps / LOOKS);
    const { checkpointSeconds } = this.#options.job;
    let saved = Date.now();
    const save = async () => {
      await this.#options.hooks.checkpoint(this.#checkpoint());
      saved = Date.now();
    };
    while (this.#options.trainer.steps < steps && !this.#tired()) {
      const { step, loss } = await this.#options.trainer.step();
      this.#state.losses.push(loss);
      this.#pace.at(step, Date.now());
      if (step % every === 0 || step === steps) await this.#look(step);
      this.#tell();
      if (Date.now() - saved >= checkpointSeconds * 1000) await save();
    }
    // What is judged now may take minutes, and may be stopped too.
    if (Date.now() - this.#began >= checkpointSeconds * 1000) await save();
  }

  /** Patience is over: so many looks in a row found nothing better. */
  #tired(): boolean {
    const { looks, best } = this.#state;
    return looks.filter(({ step }) => step > (best?.step ?? 0)).length >= this.#options.plan.patience;
  }

  /** Keeps the latest parameters that are not worse than the best seen by more than a look's standard error. */
  async #look(step: number): Promise<void> {
    const { metric } = this.#options.plan;
    const parameters = this.#options.trainer.averaged();
    // What overflowed shows in the loss of the next step alone; it is never judged, nor kept.
    if (!parameters.every(({ data }) => data.every(Number.isFinite)))
      throw notFinite("A parameter is no finite number", step, this.#options.settings);
    const judged = await this.#judge(parameters, this.#looked);
    const score = scores[metric](judged);
    const state = this.#state;
    state.looks.push({ step, validation: score });
    if (state.best === null || score >= state.best.score - standardError(judged, metric))
      state.kept = { step, parameters: parameters.map(({ data }) => data), judged };
    if (state.best === null || score > state.best.score) state.best = { step, score };
    this.#options.hooks.log(
      `step ${step}: ${metric} ${forPeople(score)} on ${judged.length} validation examples`,
    );
  }

  /** F16 where the examples that the looks judged tell no difference. */
  async #store(best: readonly Parameter[], exact: Judged[]): Promise<{ dtype: Dtype; judged: Judged[] }> {
    const { validation, hooks, job } = this.#options;
    const half = await this.#judge(best, this.#looked, "F16").catch(orElse(null, "bad_tensor"));
    const lost = half && lostAsHalf(job.task, exact, half);
    if (lost) hooks.log(`kept as F32: ${lost}`);
    const [dtype, looked] = half && !lost ? (["F16", half] as const) : (["F32", exact] as const);
    const judged = looked.length === validation.length ? looked : await this.#judge(best, validation, dtype);
    return { dtype, judged };
  }

  async #judge(
    parameters: readonly Parameter[],
    examples: readonly Example[],
    dtype: Dtype = "F32",
  ): Promise<Judged[]> {
    const { core, shelf } = this.#options.bench;
    const content = {
      template: this.#options.plan.template.source,
      parameters: this.#file(parameters, null, dtype),
    };
    const { task, verbalizers } = this.#options.job;
    return judge(
      {
        core,
        shelf,
        task,
        prompts: [{ ...content, ...(verbalizers && { verbalizers }) }],
        active: {},
        nameOf: index => this.#options.nameOf(examples[index]!),
      },
      examples,
    );
  }

  async #compare(mine: readonly Judged[]) {
    const { active, task } = this.#options.job;
    const { core, shelf } = this.#options.bench;
    const { log } = this.#options.hooks;
    const examples = this.#options.validation;
    const nameOf = (index: number) => this.#options.nameOf(examples[index]!);
    const judging = active && { core, shelf, task, ...active, nameOf };
    const theirs = judging && (await answersOfActive(judge(judging, examples), log));
    const { metric } = this.#options.plan;
    return compare({ type: task.type, metric, examples }, mine, theirs);
  }

  #file(parameters: readonly Parameter[], recipe: unknown, dtype: Dtype): Uint8Array {
    const { method, template } = this.#options.plan;
    const backbone = this.#options.bench.compiled.fingerprint;
    const { start, job, bench } = this.#options;
    const { verbalizers, base } = job;
    const bases = basesOf({ parameters: base });
    const trained = { method, backbone, recipe, parameters, verbalizers, bases, start };
    return promptFileOf({ ...trained, template: template.source }, bench.source.config, dtype);
  }

  #parametersOf(data: readonly Float32Array[]): Parameter[] {
    return this.#options.trainer.averaged().map((parameter, index) => ({ ...parameter, data: data[index]! }));
  }

  #tell(): void {
    const { steps, batchSize } = this.#options.settings;
    const pace = this.#pace.stepsPerSecond();
    const left = steps - this.#options.trainer.steps;
    this.#options.hooks.progress({
      step: this.#options.trainer.steps,
      steps,
      loss: this.#state.losses.at(-1) ?? null,
      examples_per_second: pace === null ? null : pace * batchSize,
      // Behind the last step all of validation is judged, for as long as that takes.
      eta_seconds: pace === null || left === 0 ? null : left / pace,
      validation: this.#state.looks.at(-1)?.validation ?? null,
    });
  }

  #checkpoint(): Uint8Array {
    const { trainer, job, plan, answers, learning } = this.#options;
    return written(job, {
      answers,
      start: plan.init,
      learning,
      trainer: trainer.state(),
      milliseconds: Date.now() - this.#began,
      ...this.#state,
    });
  }

  #resume(trainer: TrainerState, { best, kept, looks, losses, milliseconds }: Checkpoint): void {
    this.#options.trainer.restore(trainer);
    this.#began -= milliseconds;
    Object.assign(this.#state, { best, kept, looks, losses });
    this.#options.hooks.log(`going on from step ${trainer.step}`);
  }
}

/** The error of a run that left the finite numbers; anything else is thrown on. */
function diverged(error: unknown): ForewordError {
  if (error instanceof ForewordError && error.code === "bad_tensor") return error;
  throw error;
}

/** SHA-256 over what was trained on and validated with. */
const dataDigest = ({ examples, validation }: TrainJob): string => {
  const hash = createHash("sha256").update(examples);
  return (typeof validation === "number" ? hash.update(String(validation)) : hash.update(validation)).digest(
    "hex",
  );
};
