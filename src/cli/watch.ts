/** Follows a job to its end, and says what came of it. */
import type { EvaluationReport } from "../contract/evaluate.ts";
import type { Job, JobLine, JobProgress } from "../contract/job.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import type { Distillation } from "../contract/train.ts";
import { forPeople } from "../training/evaluation/metrics.ts";
import type { CurvePoint } from "../training/progress.ts";
import { drawCurve } from "./curve.ts";
import { events } from "./events.ts";
import { listed } from "./failure.ts";
import type { JobFlags } from "./job-flags.ts";
import { progressLine, silentLine } from "./progress.ts";
import { drawDistillation, drawEnsemble, drawReport, drawSearch } from "./report.ts";
import { call, print, route, type ServerFlags } from "./request.ts";
import { drawDonors } from "./transfer-report.ts";
import { activating } from "./values.ts";

/** As a shell reports a command that Ctrl-C ended: nothing was finished, so what should follow must not. */
const INTERRUPTED = 130;

/** Asks for a job and follows it to its end, or prints its id alone. */
export async function startJob(flags: ServerFlags & JobFlags, path: string, body: unknown): Promise<void> {
  const job = await call<Job>(flags, "POST", path, body);
  if (flags.detach) print(flags.json, job, () => `${job.id}\n`);
  else await watch(flags, job.id);
}

/** Sets the exit code: 0 where the job succeeded. Ctrl-C stops the watching alone. */
export async function watch(flags: ServerFlags, id: string): Promise<void> {
  const job = await follow(flags, id);
  if (job === null) {
    process.stderr.write(
      `The job goes on. Watch it again with: foreword jobs watch ${id}\nCancel it with: foreword jobs cancel ${id}\n`,
    );
    process.exitCode = INTERRUPTED;
    return;
  }
  if (job.state !== "succeeded") process.exitCode = 1;
  const prompt = flags.json ? null : await promptOf(flags, job);
  print(flags.json, job, () => outcome(job, prompt));
}

/** The job as it ended, or null where Ctrl-C came first. */
async function follow(flags: ServerFlags, id: string): Promise<Job | null> {
  const line = flags.json ? silentLine : progressLine();
  const detach = new AbortController();
  const interrupt = () => detach.abort();
  process.once("SIGINT", interrupt);
  try {
    const heard = events(flags, route`/jobs/${id}/events`, {
      signal: detach.signal,
      onBroken: reason => line.log(`${reason}; connecting again`),
    });
    for await (const { event, data } of heard) {
      const news: unknown = JSON.parse(data);
      if (event === "log") line.log((news as JobLine).text);
      else if (event === "progress") line.update(news as JobProgress);
      else if (event === "state" && (news as Job).ended_at !== null) return news as Job;
      else if (event === "state" && (news as Job).state === "queued") line.log("queued");
    }
    return null;
  } catch (error) {
    if (detach.signal.aborted) return null;
    throw error;
  } finally {
    process.removeListener("SIGINT", interrupt);
    line.stop();
  }
}

async function promptOf(flags: ServerFlags, { task, result }: Job): Promise<PromptRecord | null> {
  const version = result?.versions?.at(-1);
  return version === undefined
    ? null
    : call<PromptRecord>(flags, "GET", route`/tasks/${task}/prompts/${version}`);
}

/** What a job came to, for people. */
function outcome({ id, task, kind, state, error, result }: Job, prompt: PromptRecord | null): string {
  if (state === "cancelled") return `${id} was cancelled; nothing was added\n`;
  if (error) return `${id} failed: ${error.detail}\n${listed(error)}`;
  if (kind === "donors") return drawDonors(task, result!);
  if (kind === "search") return drawSearch(task, result!);
  if (kind === "evaluate") return drawReport(result as unknown as EvaluationReport);
  if (!prompt) return `${id} succeeded\n`;
  if (result && "ensemble" in result) return drawEnsemble(task, result);
  const { metric, curve, validation_examples } = prompt.metrics as {
    metric: string;
    curve: CurvePoint[];
    validation_examples: number;
  };
  const { new: score, active = null, p_value = null } = result?.validation ?? { new: null };
  const beside = active === null ? "" : `, what was active ${forPeople(active)}`;
  const chance = p_value === null ? "" : ` (p ${p_value.toPrecision(2)})`;
  const next = result?.activated
    ? `version ${prompt.version} answers for ${task} now`
    : `what was active still answers; for the new one: ${activating(task, { prompt: prompt.version })}`;
  const learnt =
    result && "distillation" in result ? drawDistillation(result.distillation as Distillation) : "";
  return `${drawCurve(curve, process.stdout.columns || 80)}
${metric} on ${validation_examples} validation examples: version ${prompt.version} ${forPeople(score)}${beside}${chance}
${learnt}${next}
`;
}
