/** What a training run needs before its first step and may take long: a donor's start, a teacher's answers. */
import type { Example } from "../contract/dataset.ts";
import { compileTemplate, hasSlots } from "../prompt/template.ts";
import { baseOf } from "./based.ts";
import type { Bench } from "./begin.ts";
import { type Checkpoint, written } from "./checkpoint.ts";
import type { RunData } from "./data.ts";
import { askTeacher, type TeacherAnswer, taught } from "./distil.ts";
import { bestStart, donated } from "./donors.ts";
import { ALWAYS } from "./enough.ts";
import { inputKey } from "./examples.ts";
import type { TrainHooks, TrainJob } from "./job.ts";
import { leadOf } from "./lead.ts";
import { mostRead, planOf, withVerbalizers } from "./plan.ts";
import { type AnyContext, contextOf, layOut } from "./rows.ts";
import { sample } from "./split.ts";

/** The job with the start that a search for a donor finds, once. */
export async function withDonor(
  bench: Bench,
  job: TrainJob,
  { train: all, ...others }: RunData,
  hooks: TrainHooks,
  left: Checkpoint | null,
): Promise<TrainJob> {
  if (job.request.init !== "donor") return job;
  let start = left?.start ?? null;
  if (start === null) {
    await checkLengths(bench, job, { train: sample(all, ALWAYS, job.request.seed ?? 0), ...others });
    start = await bestStart(bench, job, hooks);
    await hooks.checkpoint(written(job, { start }));
  }
  return { ...job, request: { ...job.request, init: start }, initial: donated(job, start) };
}

/**
 * Before a donor is looked for, or a teacher answers, which may take hours: whether examples have room behind what is
 * trained, of which one position is sure, and inputs behind the teacher. Throws `bad_dataset`.
 */
async function checkLengths(
  bench: Bench,
  job: TrainJob,
  { train, validation, lineOf, validationField }: RunData,
): Promise<void> {
  const { tokenizer, core, source } = bench;
  const { config } = source;
  const { teacher } = job;
  const task = withVerbalizers(job);
  const least = hasSlots(compileTemplate(job.template)) ? {} : { length: 1 };
  const request = { ...least, ...job.request, init: "random" as const };
  const plan = planOf({ ...job, request, task, initial: null }, train, tokenizer, config.vocabSize);
  const base = await baseOf(bench, job.base);
  const start = base?.length ?? 0;
  const lead = leadOf(plan, tokenizer, config, base);
  const room = config.maxPositions - start - (plan.method === "prefix" ? plan.ids.length : 0);
  const context = contextOf(plan, task, tokenizer, room, { base: start, lead });
  const lists = [[train, "examples"] as const, [validation, validationField] as const];
  if (teacher === null) {
    for (const [examples, field] of lists) layOut(examples, context, lineOf, field);
    return;
  }
  const { template, length, softLengths } = core.inspect(teacher);
  const behind: AnyContext = {
    ...context,
    template,
    softLengths: softLengths.at(-1)!,
    beginning: "none",
    room: config.maxPositions,
    maxTokens: config.maxPositions - length - (context.labels?.longest ?? 1),
    labels: null,
  };
  for (const [examples, field] of lists) {
    // Whatever answers they come with, the teacher gives its own.
    const asked = new Map<Example, Example>(examples.map(each => [{ input: each.input, output: "" }, each]));
    const placeOf = (input: Example) => lineOf(asked.get(input)!);
    layOut([...asked.keys()], { ...context, labels: null }, placeOf, field);
    layOut([...asked.keys()], behind, placeOf, field);
  }
}

/** The examples, with the teacher's answers where there is one. */
export async function answersOf(
  bench: Bench,
  job: TrainJob,
  found: RunData,
  hooks: TrainHooks,
  left: Checkpoint | null,
) {
  const { teacher, request } = job;
  if (teacher === null) return { ...found, distributions: null, answers: null };
  // Whatever answers an input came with, the teacher has one.
  const all = inputsOnce(found.train);
  // As many are asked for as may be laid out; of labels, all of which can be learnt from, as many as are read.
  const read = mostRead(request);
  const most = request.steps !== undefined && job.task.labels !== null ? read : Math.max(ALWAYS, read);
  const data = {
    ...found,
    train: sample(all, most, request.seed ?? 0),
    validation: inputsOnce(found.validation),
  };
  if (data.train.length < all.length)
    hooks.log(
      `of ${all.length} inputs the teacher answers ${data.train.length}, by chance: the steps read no more`,
    );
  const { lineOf, nameOf, validationField } = data;
  const inputs = data.train.length + data.validation.length;
  let answers = left?.answers ?? [];
  if (answers.length < inputs) {
    await checkLengths(bench, job, data);
    let saved = Date.now();
    const keep = async (answers: TeacherAnswer[]) => {
      if (answers.length < inputs && Date.now() - saved < job.checkpointSeconds * 1000) return;
      await hooks.checkpoint(written(job, { answers }));
      saved = Date.now();
    };
    answers = await askTeacher(bench, job, teacher, data, answers, hooks, keep);
  }
  const learnt = taught(data, answers, hooks.log);
  const own = (example: Example) => learnt.origins.get(example)!;
  return {
    ...learnt,
    answers,
    validationField,
    lineOf: (example: Example) => lineOf(own(example)),
    nameOf: (example: Example) => nameOf(own(example)),
  };
}

function inputsOnce(examples: readonly Example[]): Example[] {
  const met = new Set<string>();
  return examples.filter(each => met.size < met.add(inputKey(each)).size);
}
