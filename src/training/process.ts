/**
 * The trainer's process: one job, then it ends. It runs at nice 19, lets requests go first between micro-batches and
 * between runs of the engine, and ends by itself when the server's channel closes.
 */
import { setPriority } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { resolveBackbone } from "../backbone/pull.ts";
import { openCore } from "../engine/open.ts";
import { ForewordError } from "../errors.ts";
import type { Bench } from "./begin.ts";
import { examplesOf } from "./data.ts";
import { rankStarts } from "./donors.ts";
import { combine } from "./evaluation/ensemble.ts";
import { evaluate } from "./evaluation/report.ts";
import type { TrainHooks } from "./job.ts";
import type { FromTrainer, ToTrainer, TrainerPlace, Work, WorkKind, Works } from "./protocol.ts";
import { train } from "./run.ts";
import { search } from "./search/search.ts";
import { Shelf } from "./shelf.ts";

/** Between waits for requests: of the runs that a layer, or a written token, takes each is far shorter. */
const WORK_MS = 300;
/** Such a wait is no longer: under steady load training is slow, but it ends. */
const PATIENCE_MS = 1000;
/** Tokens of a validation run: as short as a micro-batch of the gradient. */
const BATCH_TOKENS = 512;
const QUEUE = 4096;
const CACHE_BYTES = 2 ** 27;
/**
 * The session that validates reads mapped weights: packed it would hold 0.55 GB, the whole gradient 0.82 GB, and for
 * runs of 320 tokens packing saves one part in twenty of the time. Its memory, 0.2 GB, is kept: to take it from the
 * system anew for each operator was half of the time.
 */
const MAPPED = { packed: false, memory: "kept" } as const;

type Does<Kind extends WorkKind> = (
  bench: Bench,
  job: Works[Kind]["job"],
  hooks: TrainHooks,
) => Promise<Works[Kind]["outcome"]>;
const works: { [Kind in WorkKind]: Does<Kind> } = {
  train,
  evaluate,
  combine,
  search,
  donors: (bench, job, hooks) => rankStarts(bench, job, examplesOf(job), hooks),
};

let busy = false;
/** Ends the pauses under way. */
const waiting = new Set<() => void>();
/** When the last pause ended. */
let waited = 0;
let saved = () => {};

const send = (message: FromTrainer): Promise<void> =>
  new Promise(resolve => process.send!(message, undefined, {}, () => resolve()));

process.once("disconnect", () => process.exit(0));
process.on("message", (message: ToTrainer) => {
  if (message.type === "start") void start(message.work, message.place);
  else if (message.type === "saved") saved();
  else {
    ({ busy } = message);
    if (!busy) for (const go of waiting) go();
  }
});
setPriority(19);

/** Messages are read here too: a run of the graph blocks the thread. */
async function pause(): Promise<void> {
  await turn();
  if (!busy || performance.now() - waited < WORK_MS) return;
  await new Promise<void>(resolve => {
    const go = () => {
      clearTimeout(timer);
      waiting.delete(go);
      resolve();
    };
    const timer = setTimeout(go, PATIENCE_MS);
    waiting.add(go);
  });
  waited = performance.now();
}

async function checkpoint(bytes: Uint8Array): Promise<void> {
  const kept = new Promise<void>(resolve => {
    saved = resolve;
  });
  await send({ type: "checkpoint", bytes });
  await kept;
}

/** Loading a graph writes files beside the compiled weights; who asked for the job is told what to do. */
function diskFull(error: unknown): ForewordError | null {
  const code = /\b(ENOSPC|EDQUOT|EFBIG)\b/.exec((error as Error).message)?.[0];
  if (code === undefined) return null;
  const detail = `The trainer's process can't write to the server's disk (${code}). Make room in its data folder, and train again.`;
  return new ForewordError("internal", detail, {}, { cause: error });
}

async function start(
  { kind, job }: Work,
  { backbone, data, runtime, threads, precision }: TrainerPlace,
): Promise<void> {
  try {
    const path = await resolveBackbone(backbone, { data });
    if (path === null)
      throw new ForewordError("not_ready", "The backbone is not there yet. Train again later.");
    const shelf = new Shelf();
    const settings = {
      backbone: path,
      cache: join(data, "compiled"),
      runtime,
      threads,
      precision,
      cacheBytes: CACHE_BYTES,
      batchTokens: BATCH_TOKENS,
      queue: QUEUE,
      load: MAPPED,
      pause,
    };
    const opened = await openCore(settings, shelf, () => {});
    const outcome = await (works[kind] as Does<WorkKind>)({ ...opened, shelf }, job, {
      progress: progress => void send({ type: "progress", progress }),
      log: text => void send({ type: "log", text }),
      checkpoint,
      pause,
    });
    await opened.close();
    await send({ type: "done", outcome });
  } catch (error) {
    const cause = error instanceof ForewordError ? undefined : String((error as Error).stack ?? error);
    const problem = (diskFull(error) ?? ForewordError.from(error)).toProblem();
    await send({ type: "problem", problem, ...(cause && { cause }) });
  }
  process.disconnect();
}
