/** The search for a hard prompt: candidates are thought of, raced, and the best of them judged on validation. */
import { isDeepStrictEqual } from "node:util";
import type { Example } from "../../contract/dataset.ts";
import type { Estimate } from "../../contract/evaluate.ts";
import type { Ranked, SearchSettings } from "../../contract/search.ts";
import type { Active } from "../../contract/task.ts";
import type { Metric } from "../../contract/train.ts";
import type { PromptContent } from "../../engine/engine.ts";
import { randomFrom } from "../../engine/sampler.ts";
import { ForewordError, invalid } from "../../errors.ts";
import { sameFields } from "../../prompt/fields.ts";
import { readPromptFile } from "../../prompt/file.ts";
import { standing } from "../../prompt/stack.ts";
import { compileTemplate } from "../../prompt/template.ts";
import { verbalize } from "../../prompt/verbalizer.ts";
import { shuffled } from "../batches.ts";
import type { Bench } from "../begin.ts";
import { labelsOf } from "../check.ts";
import { dataOf, type RunData } from "../data.ts";
import { answersOfActive, byInput, type Compared, compare } from "../evaluation/compare.ts";
import { answeredAnew, judge, type Labelled, label } from "../evaluation/judge.ts";
import { forPeople, isRight, type Judged, scores } from "../evaluation/metrics.ts";
import { pairedBootstrap, shareOf } from "../evaluation/significance.ts";
import { inputKey } from "../examples.ts";
import type { ActivePrompts, TrainHooks, TrainJob } from "../job.ts";
import { counting } from "../progress.ts";
import { sample, withoutLeaks } from "../split.ts";
import { biasOf, withBias } from "./biases.ts";
import { type Candidate, patterns, type Subject } from "./candidates.ts";
import { otherWords } from "./label-words.ts";
import { type Racer, race } from "./race.ts";
import { written } from "./written.ts";

const BUDGET = 3000;
/** What the race over wordings takes of it; the rest is for verbalizers. */
const WORDINGS = 0.6;
const WRITTEN = 4;
/** Examples of each label, or texts, that candidates may show and are written from; never more than a quarter. */
const POOL = 8;
/** Prompts that get other verbalizers, and that are judged on validation. */
const REWORDED = 2;
const FINALISTS = 4;
const VALIDATED = 1000;
/** Labels beyond which the race looks for the best one alone, and no biases are fitted. */
const ALL_SCORES = 32;

export interface SearchJob extends Pick<TrainJob, "task" | "base" | "examples" | "validation" | "splitSeed"> {
  settings: SearchSettings;
  /** The active prompt's template, as it was before training. Every candidate has its fields. */
  template: string;
  active: ActivePrompts | null;
}

export interface SearchOutcome extends Compared {
  metric: Metric;
  /** Best first. */
  table: Omit<Ranked, "version">[];
}

export async function search(
  bench: Bench,
  job: SearchJob,
  hooks: Pick<TrainHooks, "pause" | "log" | "progress">,
): Promise<SearchOutcome> {
  return new Search(bench, job, hooks).run();
}

type Hooks = Pick<TrainHooks, "pause" | "log" | "progress">;

class Search {
  readonly #bench: Bench;
  readonly #job: SearchJob;
  readonly #hooks: Hooks;
  readonly #metric: Metric;
  readonly #budget: number;
  readonly #every: boolean;
  /** Answers by candidate, which a second race does not ask for again. */
  readonly #known = new Map<string, Judged[]>();
  readonly #data: RunData;
  readonly #tell: () => void;

  constructor(bench: Bench, job: SearchJob, hooks: Hooks) {
    this.#bench = bench;
    this.#job = job;
    this.#hooks = hooks;
    this.#metric = job.settings.metric ?? (job.task.type === "generation" ? "loss" : "accuracy");
    this.#budget = job.settings.budget ?? BUDGET;
    this.#data = dataOf(job, hooks.log);
    // The finalists are judged, and what is active.
    const validated = (FINALISTS + 1) * Math.min(VALIDATED, this.#data.validation.length);
    this.#tell = counting(hooks, this.#budget + validated);
    this.#every = job.task.type === "classification" && labelsOf(job.task).length <= ALL_SCORES;
  }

  async run(): Promise<SearchOutcome> {
    const { task, settings } = this.#job;
    const data = this.#data;
    const random = randomFrom(settings.seed ?? 0);
    const mixed = shuffled(data.train.length, random).map(index => data.train[index]!);
    const kinds = Math.max(1, labelsOf(task).length);
    const pool = sample(mixed, Math.min(POOL * kinds, Math.floor(mixed.length / 4)), settings.seed ?? 0);
    // No candidate is raced on inputs whose answers it may show.
    const unseen = withoutLeaks({ train: pool, validation: mixed }).validation;
    const racing = unseen.length > 0 ? unseen : mixed.filter(example => !pool.includes(example));

    const candidates = await this.#candidates(pool);
    const first = await this.#race(candidates, racing, WORDINGS * this.#budget, "wordings");
    const reworded = await this.#reworded(first.slice(0, REWORDED), pool);
    const second =
      reworded.length === 0
        ? first
        : await this.#race(
            [...first.slice(0, FINALISTS).map(({ item }) => item), ...reworded],
            racing,
            (1 - WORDINGS) * this.#budget,
            "verbalizers",
          );
    const left = first.filter(({ item }) => !second.some(racer => racer.item === item));
    return this.#judged([...second, ...left], data.validation);
  }

  async #candidates(pool: readonly Example[]): Promise<Candidate[]> {
    const { task, template, settings, active } = this.#job;
    const { tokenizer, source, core } = this.#bench;
    const { fields } = compileTemplate(template);
    const subject: Subject = { task, fields, shown: pool, codec: tokenizer };
    const given: Candidate[] = (settings.candidates ?? []).map((each, index) => ({
      ...each,
      name: each.name ?? `candidate ${index + 1}`,
      source: "caller",
    }));
    const [now] = active?.prompts ?? [];
    const all: Candidate[] = [
      ...(now && this.#isCandidate(now)
        ? [{ name: "active", source: "active" as const, template: now.template, ...words(now) }]
        : []),
      ...given,
      ...((settings.patterns ?? true) ? patterns(subject) : []),
      ...(await written(this.#bench, subject, settings.written ?? WRITTEN, settings.seed ?? 0)),
    ];
    const seen = new Set<string>();
    const room = source.config.maxPositions / 2;
    const fitting = all.filter(candidate => {
      const key = keyOf(candidate);
      if (seen.has(key)) return false;
      seen.add(key);
      const why = misfit(() => {
        const { length, template: its } = core.inspect(this.#standing(candidate));
        if (sameFields(its.fields, fields)) return length;
        throw new ForewordError("validation", `its fields are ${its.fields.join(", ")}.`);
      }, room);
      if (why) this.#hooks.log(`${candidate.name} is left out: ${why}`);
      return why === null;
    });
    if (fitting.length > 0) return fitting;
    throw invalid("candidates", "none is left to race. Send some, or allow patterns.");
  }

  /** A candidate on what the active prompt stands on. */
  #standing({ template }: Pick<Candidate, "template">): PromptContent {
    return standing(template, this.#job.base, this.#bench.compiled.fingerprint);
  }

  /** Whether a prompt is words on the same. */
  #isCandidate({ template, parameters }: PromptContent): boolean {
    const same = this.#standing({ template }).parameters;
    if (parameters === null || same === null) return parameters === same;
    const { kind, bases } = readPromptFile(parameters);
    return kind === "hard" && isDeepStrictEqual(bases, readPromptFile(same).bases);
  }

  #race(
    candidates: readonly Candidate[],
    examples: readonly Example[],
    budget: number,
    what: string,
  ): Promise<Racer<Candidate, Judged>[]> {
    this.#hooks.log(`racing ${candidates.length} ${what} on up to ${examples.length} examples`);
    return race(candidates, {
      examples: examples.length,
      budget,
      finalists: FINALISTS,
      answer: async (candidate, from, to) => {
        const known = this.#known.get(keyOf(candidate)) ?? [];
        if (known.length < to)
          for (const each of await this.#answers(candidate, {}, examples.slice(known.length, to)))
            known.push(each);
        this.#known.set(keyOf(candidate), known);
        return known.slice(from, to);
      },
      score: judged => this.#score(judged),
      onFailure: (candidate, error) => this.#leaves(candidate, error),
      onRound: (racers, round) => {
        const [best] = racers;
        this.#hooks.log(
          `round ${round}: ${racers.length} of them, ${best!.results.length} examples, best ${best!.item.name} ${forPeople(best!.score)}`,
        );
      },
    });
  }

  /** An example may be longer than one candidate has room for, and others answer it. */
  #leaves(candidate: Candidate, error: unknown): void {
    if (!(error instanceof ForewordError)) throw error;
    this.#hooks.log(`${candidate.name} is left out: ${error.message}`);
  }

  /** Judged by the metric, with label biases if they can be fitted and help. */
  #score(judged: readonly Judged[]): number {
    const plain = scores[this.#metric](judged);
    if (!this.#every) return plain;
    return Math.max(plain, scores[this.#metric](withBias(judged as Labelled[], labelsOf(this.#job.task))));
  }

  async #reworded(best: readonly Racer<Candidate, Judged>[], pool: readonly Example[]): Promise<Candidate[]> {
    const { task, settings } = this.#job;
    if (task.type === "generation" || settings.verbalizers === false) return [];
    const all: Candidate[] = [];
    for (const { item } of best) {
      await this.#hooks.pause();
      all.push(...(await otherWords(this.#bench, task, item, this.#standing(item), pool)));
    }
    return all.filter(candidate => this.#tellsApart(candidate));
  }

  /** Whether no two labels have the same tokens. */
  #tellsApart({ template, verbalizers }: Candidate): boolean {
    const labels = verbalize(this.#job.task.labels!, compileTemplate(template), verbalizers);
    return misfit(() => this.#bench.core.checkLabels(labels).length, Number.POSITIVE_INFINITY) === null;
  }

  async #answers(candidate: Candidate, active: Active, examples: readonly Example[]): Promise<Judged[]> {
    const { task } = this.#job;
    const prompts = [{ ...this.#standing(candidate), ...words(candidate) }];
    const nameOf = (index: number) => this.#data.nameOf(examples[index]!);
    const judging = { ...this.#bench, task, prompts, active, nameOf, tell: this.#tell };
    return this.#every ? label(judging, examples, { every: true }) : judge(judging, examples);
  }

  /** The finalists on validation; the best of them goes first, and is compared with what is active. */
  async #judged(
    racers: readonly Racer<Candidate, Judged>[],
    validation: readonly Example[],
  ): Promise<SearchOutcome> {
    const { task, active, settings } = this.#job;
    const examples = sample(validation, VALIDATED, settings.seed ?? 0);
    const finals = [];
    const failures: unknown[] = [];
    const others: (typeof racers)[number][] = [];
    for (const racer of racers) {
      if (finals.length === FINALISTS) {
        others.push(racer);
        continue;
      }
      // A second, shorter race has fewer of its answers than are known.
      const known = this.#known.get(keyOf(racer.item))! as Labelled[];
      const own = this.#serving(racer.item);
      const usual = this.#every && own ? known.map(each => answeredAnew(each, own)) : known;
      const bias = this.#every ? biasOf(known, labelsOf(task), this.#metric, usual) : null;
      const serves = bias ? null : own;
      try {
        const judged = await this.#answers(racer.item, serves ?? { ...(bias && { bias }) }, examples);
        finals.push({ racer, bias, serves, judged, score: scores[this.#metric](judged) });
      } catch (error) {
        this.#leaves(racer.item, error);
        failures.push(error);
      }
    }
    if (finals.length === 0) throw failures[0];
    finals.sort((a, b) => b.score - a.score);
    const [winner] = finals as [(typeof finals)[number]];
    const row = (
      racer: Racer<Candidate, Judged>,
      index: number,
      found: Estimate | null,
      bias: Ranked["bias"] | null = null,
    ) => ({
      rank: index + 1,
      name: racer.item.name,
      source: racer.item.source,
      template: racer.item.template,
      ...words(racer.item),
      ...(bias && { bias }),
      length: this.#bench.core.inspect(this.#standing(racer.item)).length,
      race: { score: racer.score, examples: racer.results.length },
      validation: found,
    });
    const table = [
      ...finals.map(({ racer, judged, bias }, index) =>
        row(racer, index, this.#estimate(judged, examples), bias),
      ),
      ...others.map((racer, index) => row(racer, finals.length + index, null)),
    ];
    const nameOf = (index: number) => this.#data.nameOf(examples[index]!);
    const judging = active && { ...this.#bench, task, ...active, nameOf, tell: this.#tell };
    const theirs =
      finals.find(({ serves }) => serves)?.judged ??
      (judging && (await answersOfActive(judge(judging, examples), this.#hooks.log)));
    // The best of the finalists was chosen by these examples too.
    const compared = compare(
      { type: task.type, metric: this.#metric, examples, choices: finals.length },
      winner.judged,
      theirs,
    );
    return { metric: this.#metric, table, ...compared };
  }

  /** The record by which a candidate answers now, alone; null where none does. */
  #serving({ source }: Candidate): Active | null {
    const { active } = this.#job;
    return source === "active" && active?.active.prompt !== undefined ? active.active : null;
  }

  #estimate(judged: readonly Judged[], examples: readonly Example[]): Estimate {
    if (this.#metric === "accuracy") return shareOf(judged.filter(isRight).length, judged.length);
    const score = scores[this.#metric];
    const inputs = byInput(examples.map(inputKey), judged);
    const { low, high } = pairedBootstrap(
      inputs.length,
      drawn => score(Array.from(drawn).flatMap(index => inputs[index]!)),
      { resamples: 500 },
    );
    return { value: score(judged), low, high };
  }
}

const keyOf = ({ template, verbalizers }: Candidate): string =>
  JSON.stringify([template, verbalizers ?? null]);

const words = ({ verbalizers }: Pick<Candidate, "verbalizers">): Pick<Candidate, "verbalizers"> =>
  verbalizers ? { verbalizers } : {};

/** Why a prompt can't be raced, or null. */
function misfit(size: () => number, limit: number): string | null {
  try {
    const tokens = size();
    return tokens > limit ? `it has ${tokens} tokens, half the context is ${limit}` : null;
  } catch (error) {
    if (error instanceof ForewordError) return error.message;
    throw error;
  }
}
