/** The engine's thread: all tensor work happens here, since `run()` blocks the thread that calls it. */
import { parentPort, workerData } from "node:worker_threads";
import { parametersOf } from "../backbone/source.ts";
import { serves, trains } from "../compile/check.ts";
import type { BackboneReport } from "../contract/backbone.ts";
import { ForewordError } from "../errors.ts";
import { AttentionObserver } from "./attention.ts";
import type { PromptContent } from "./engine.ts";
import { exactPrefix } from "./exact.ts";
import { nearestTokens } from "./nearest.ts";
import { type OpenedCore, openCore } from "./open.ts";
import type { FromWorker, ToWorker, WorkerSettings } from "./protocol.ts";

const settings = workerData as WorkerSettings;
const port = parentPort!;
const post = (message: FromWorker) => port.postMessage(message);

/** Ids of calls that are being served. */
const served = new Set<number>();
const cancelled = new Set<number>();
const loads = new Map<
  number,
  { resolve: (content: PromptContent) => void; reject: (error: Error) => void }
>();
let nextLoad = 0;

const prompts = {
  load: (digest: string) =>
    new Promise<PromptContent>((resolve, reject) => {
      const id = nextLoad++;
      loads.set(id, { resolve, reject });
      post({ type: "load", id, digest });
    }),
};

/** Aborted when nothing is wanted any more, be it while the backbone loads. */
const closing = new AbortController();

async function start() {
  const opened = await openCore(
    settings,
    prompts,
    (phase, done) => post({ type: "phase", phase, done }),
    closing.signal,
  );
  return { ...opened, observer: new AttentionObserver(opened) };
}

function describe({ source, compiled, variants, runtime, core, tokenizer }: OpenedCore): BackboneReport {
  const { config } = source;
  const { fingerprint, precision } = compiled;
  return {
    name: settings.name,
    fingerprint,
    architecture: config.architecture,
    layers: config.layers,
    hidden: config.hiddenSize,
    heads: config.heads,
    kv_heads: config.kvHeads,
    head_dim: config.headDim,
    vocabulary: config.vocabSize,
    context: config.maxPositions,
    parameters: parametersOf(source),
    bos: tokenizer.bosText,
    runtime: { ...runtime.info },
    precision: { active: precision, table: precisionTable(variants) },
    memory: {
      rss_bytes: process.memoryUsage.rss(),
      weights_bytes: variants.bytes[precision]!,
      prefix_cache_bytes: core.statistics().prefixBytes,
      prefix_cache_limit_bytes: settings.cacheBytes,
    },
  };
}

function precisionTable({
  bytes,
  check,
  codes,
}: OpenedCore["variants"]): BackboneReport["precision"]["table"] {
  const plain = {
    precision: "fp32",
    bytes: bytes.fp32!,
    text_loss: check?.text_loss.fp32 ?? null,
    gradient_cosine: check && 1,
    serves: true,
    trains: true,
  };
  if (!check) return [plain];
  return [
    plain,
    {
      precision: "int8",
      bytes: bytes.int8!,
      text_loss: check.text_loss.int8,
      gradient_cosine: check.gradient_cosine,
      serves: serves(check),
      trains: trains(check) && codes === "int8",
    },
  ];
}

let last: Promise<unknown> = Promise.resolve();
let waiting = 0;
/** Exports, and what is asked of a prompt's positions, that may wait. */
const MOST_WAITING = 16;

/** What may open a session of its own waits for others of its kind. Throws `queue_full`. */
async function oneByOne<Answer>(make: () => Promise<Answer>): Promise<Answer> {
  if (waiting >= MOST_WAITING)
    throw new ForewordError(
      "queue_full",
      `${waiting} exports and questions about positions wait already, which is the limit. Try again in a moment.`,
    );
  waiting++;
  const next = last.then(make, make).finally(() => waiting--);
  last = next;
  return next;
}

type Started = Awaited<ReturnType<typeof start>>;

function answer(started: Started, message: Extract<ToWorker, { type: "call" }>): unknown {
  const { core, observer } = started;
  switch (message.call) {
    case "infer":
      return core.infer(message.request, {
        deadline: message.deadline,
        background: message.background,
        cancelled: () => cancelled.has(message.id),
        onToken: message.stream ? token => post({ type: "token", id: message.id, token }) : () => {},
      });
    case "inspect":
      return core.inspect(message.content);
    case "prefix":
      return oneByOne(() => exactPrefix(started, message.content));
    case "labels":
      return core.checkLabels(message.labels);
    case "nearest":
      return oneByOne(() => nearestTokens(started, message.content, message.count));
    case "attention":
      return oneByOne(() => observer.observe(message.content, message.inputs));
    case "statistics":
      return core.statistics();
  }
}

async function serveCall(started: Started, message: Extract<ToWorker, { type: "call" }>): Promise<void> {
  const { id } = message;
  served.add(id);
  try {
    post({ type: "answer", id, answer: await answer(started, message) });
  } catch (error) {
    const problem = ForewordError.from(error).toProblem();
    const cause = error instanceof ForewordError ? undefined : String((error as Error).stack ?? error);
    post({ type: "problem", id, problem, ...(cause && { cause }) });
  } finally {
    served.delete(id);
    cancelled.delete(id);
  }
}

/** Ends without `process.exit`, which would abort a run in progress. */
async function close({ observer, close }: Started): Promise<void> {
  await observer.close();
  await close();
  port.close();
}

let started: Started | null = null;
port.on("message", (message: ToWorker) => {
  if (message.type === "close") {
    if (started && !closing.signal.aborted) void close(started);
    closing.abort();
  } else if (message.type === "call") void serveCall(started!, message);
  else if (message.type === "cancel") {
    if (served.has(message.id)) cancelled.add(message.id);
  } else {
    const load = loads.get(message.id);
    loads.delete(message.id);
    if (message.type === "prompt") load?.resolve(message.content);
    else load?.reject(ForewordError.fromProblem(message.problem));
  }
});

try {
  const opened = await start();
  if (closing.signal.aborted) await close(opened);
  else {
    started = opened;
    post({ type: "ready", report: describe(opened) });
  }
} catch (error) {
  const known =
    error instanceof ForewordError
      ? error
      : new ForewordError("bad_backbone", `The backbone does not load: ${(error as Error).message}`);
  post({ type: "failed", problem: known.toProblem() });
  port.close();
}
