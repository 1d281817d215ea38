/** The engine as the server sees it: it finds or pulls the backbone, starts the worker, and passes calls to it. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { pull, resolveBackbone } from "../backbone/pull.ts";
import type { Precision } from "../compile/variants.ts";
import type { BackboneReport } from "../contract/backbone.ts";
import { ForewordError, type Problem, shuttingDown } from "../errors.ts";
import type { FieldValues } from "../prompt/fields.ts";
import type { PrefixParameters } from "../prompt/file.ts";
import type { VerbalizedLabel } from "../prompt/verbalizer.ts";
import type { LoadOptions } from "../runtime/runtime.ts";
import type {
  AnswerTo,
  Engine,
  EngineRequest,
  EngineState,
  EngineStatistics,
  InferOptions,
  NearestTokens,
  PromptAttention,
  PromptContent,
  PromptDigest,
  PromptInspection,
  PromptSource,
} from "./engine.ts";
import type { Call, FromWorker, ToWorker, WorkerSettings } from "./protocol.ts";
import { startThread } from "./thread.ts";

export interface EngineOptions {
  /** A catalogue name, `owner/name` of the hub, or a path. */
  backbone: string;
  /** Holds `backbones/` and `compiled/`. */
  data: string;
  mirror?: string;
  runtime: "onnx" | "tfjs";
  threads: number;
  precision: Precision;
  cacheBytes: number;
  batchTokens: number;
  queue: number;
  /** How the runtime holds the weights; packed, for speed, when left out. */
  load?: LoadOptions;
  /** Whether what no source could give is fetched again, and again; else `ready()` says why it is not there. */
  patient?: boolean;
  prompts: PromptSource;
  /** Told what the engine is doing while it loads, and of failures that no caller is told in full. */
  log: { info(fields: object, text: string): void; error(fields: object, text: string): void };
}

/** Between one try to load the backbone and the next, in milliseconds. */
const RETRY = { first: 5000, most: 300_000 };

interface Pending {
  resolve: (answer: never) => void;
  reject: (error: Error) => void;
  onToken?: InferOptions["onToken"] | undefined;
}

/** Starts loading at once; `ready()` tells when it is done. */
export function createEngine(options: EngineOptions): Engine {
  return new EngineHost(options);
}

class EngineHost implements Engine {
  readonly #options: EngineOptions;
  #state: EngineState = { status: "loading", phase: "starting", progress: null };
  #worker: Worker | null = null;
  #exited: Promise<void> = Promise.resolve();
  #report: BackboneReport | null = null;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  #inferring = 0;
  readonly #watchers = new Set<(busy: boolean) => void>();
  #closing = false;
  readonly #abort = new AbortController();
  #loaded: Promise<void>;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#loaded = this.#begin();
  }

  state(): EngineState {
    return this.#state;
  }

  ready(): Promise<void> {
    return this.#loaded;
  }

  backbone(): BackboneReport {
    if (!this.#report) throw this.#notReady();
    return { ...this.#report, memory: { ...this.#report.memory, rss_bytes: process.memoryUsage.rss() } };
  }

  inspect(content: PromptContent): Promise<PromptInspection> {
    return this.#call({ call: "inspect", content });
  }

  prefix(content: PromptContent): Promise<PrefixParameters> {
    return this.#call({ call: "prefix", content });
  }

  checkLabels(labels: readonly VerbalizedLabel[]): Promise<number[][][]> {
    return this.#call({ call: "labels", labels });
  }

  nearest(content: PromptContent, count: number): Promise<NearestTokens> {
    return this.#call({ call: "nearest", content, count });
  }

  attention(content: PromptContent, inputs: readonly (string | FieldValues)[]): Promise<PromptAttention> {
    return this.#call({ call: "attention", content, inputs });
  }

  statistics(): Promise<EngineStatistics> {
    return this.#call({ call: "statistics" });
  }

  watchBusy(listener: (busy: boolean) => void): () => void {
    // A listener of its own for each call, so that one function may watch twice.
    const watcher = (busy: boolean) => listener(busy);
    this.#watchers.add(watcher);
    watcher(this.#inferring > 0);
    return () => this.#watchers.delete(watcher);
  }

  infer<Request extends EngineRequest>(
    request: Request,
    { deadline, signal, background = false, onToken }: InferOptions,
  ): Promise<AnswerTo<Request>> {
    if (signal?.aborted) return Promise.reject(new ForewordError("deadline", "The caller went away."));
    const id = this.#nextId;
    const cancel = () => this.#post({ type: "cancel", id });
    signal?.addEventListener("abort", cancel, { once: true });
    const answer = this.#call<AnswerTo<Request>>(
      { call: "infer", request, deadline, background, stream: onToken !== undefined },
      onToken,
    );
    // Training does not wait for what waits itself.
    const counted = background ? 0 : 1;
    this.#count(counted);
    return answer.finally(() => {
      this.#count(-counted);
      signal?.removeEventListener("abort", cancel);
    });
  }

  #count(by: number): void {
    const before = this.#inferring > 0;
    this.#inferring += by;
    const busy = this.#inferring > 0;
    if (busy !== before) for (const watcher of this.#watchers) watcher(busy);
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#abort.abort();
    // A worker that loads ends its loading; none begins any more.
    this.#post({ type: "close" });
    await this.#loaded.catch(() => {});
    await this.#exited;
  }

  #begin(again = false): Promise<void> {
    const loaded = this.#loadPatiently(again);
    // Whoever awaits ready() hears of a failure; nobody has to.
    loaded.catch(() => {});
    return loaded;
  }

  /** What no source could give just now may be had later, and what served once can be loaded `again`. */
  async #loadPatiently(again: boolean): Promise<void> {
    for (let wait = RETRY.first; ; wait = Math.min(2 * wait, RETRY.most)) {
      try {
        return await this.#load();
      } catch (error) {
        const away = this.#options.patient && error instanceof ForewordError && "failures" in error.fields;
        if (this.#closing || !(away || again)) throw error;
      }
      await sleep(wait, null, { signal: this.#abort.signal }).catch(() => {
        throw shuttingDown();
      });
    }
  }

  async #load(): Promise<void> {
    const { backbone, data, mirror, runtime, threads, precision, cacheBytes, batchTokens, queue, load } =
      this.#options;
    const place = { data, ...(mirror !== undefined && { mirror }) };
    try {
      const path = (await resolveBackbone(backbone, place)) ?? (await this.#pull(place));
      const settings: WorkerSettings = {
        backbone: path,
        name: backbone,
        cache: join(data, "compiled"),
        runtime,
        threads,
        precision,
        cacheBytes,
        batchTokens,
        queue,
        ...(load && { load }),
      };
      // What closes has no worker to tell yet.
      if (this.#closing) throw shuttingDown();
      await this.#start(settings);
    } catch (error) {
      const { message } = ForewordError.from(error);
      this.#state = { status: "failed", phase: this.#state.phase, progress: null, error: message };
      if (!this.#closing) this.#options.log.error({ err: error }, "the backbone cannot be served");
      throw error;
    }
  }

  #pull(place: { data: string; mirror?: string }): Promise<string> {
    let lastPhase = "";
    return pull(this.#options.backbone, {
      ...place,
      signal: this.#abort.signal,
      onProgress: ({ source, phase, received, total }) => {
        const text = `pulling ${this.#options.backbone} from ${source}: ${phase}`;
        if (text !== lastPhase) this.#options.log.info({ backbone: this.#options.backbone, source }, text);
        lastPhase = text;
        this.#enter(text, total ? received / total : null);
      },
    });
  }

  #start(settings: WorkerSettings): Promise<void> {
    const worker = startThread("worker", { workerData: settings });
    this.#worker = worker;
    this.#exited = new Promise(resolve => worker.once("exit", () => resolve()));
    return new Promise((resolve, reject) => {
      worker.on("message", (message: FromWorker) => {
        if (message.type === "ready") {
          this.#report = message.report;
          this.#state = { status: "ready", phase: "ready", progress: 1 };
          this.#options.log.info(
            {
              backbone: message.report.name,
              runtime: message.report.runtime,
              precision: message.report.precision,
            },
            "the backbone is ready",
          );
          resolve();
        } else if (message.type === "failed") reject(ForewordError.fromProblem(message.problem));
        else this.#hear(message, worker);
      });
      worker.once("error", error => {
        this.#options.log.error({ err: error }, "the engine's worker failed");
        reject(error);
      });
      worker.once("exit", () => {
        reject(new ForewordError("internal", "The engine's worker ended before it was ready."));
        this.#ended();
      });
    });
  }

  #hear(message: Exclude<FromWorker, { type: "ready" | "failed" }>, from: Worker): void {
    if (message.type === "phase") this.#enter(message.phase, message.done);
    else if (message.type === "load") void this.#supply(message.id, message.digest, from);
    else if (message.type === "token") this.#pending.get(message.id)?.onToken?.(message.token);
    else this.#settle(message);
  }

  #settle(message: Extract<FromWorker, { type: "answer" | "problem" }>): void {
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    this.#pending.delete(message.id);
    if (message.type === "answer") {
      pending.resolve(message.answer as never);
      return;
    }
    if (message.cause) this.#options.log.error({ cause: message.cause }, "the engine failed at a request");
    pending.reject(ForewordError.fromProblem(message.problem));
  }

  /** Told to the worker that asked: the next one counts anew, and would take it for another prompt. */
  async #supply(id: number, digest: PromptDigest, to: Worker): Promise<void> {
    const post = (message: ToWorker) => to.postMessage(message);
    try {
      post({ type: "prompt", id, content: await this.#options.prompts.load(digest) });
    } catch (error) {
      const problem: Problem = ForewordError.from(error).toProblem();
      post({ type: "no-prompt", id, problem });
    }
  }

  #enter(phase: string, progress: number | null): void {
    if (phase !== this.#state.phase) this.#options.log.info({ phase }, phase);
    this.#state = { status: "loading", phase, progress };
  }

  /** The worker is gone: what it still owed is answered, and if it was ready, another one takes its place. */
  #ended(): void {
    this.#worker = null;
    if (!this.#closing && this.#state.status === "ready") {
      this.#options.log.error({}, "the engine's worker ended; another one starts");
      this.#enter("starting again", null);
      this.#loaded = this.#begin(true);
    }
    const error = this.#closing
      ? shuttingDown()
      : new ForewordError(
          "not_ready",
          "The engine stopped, and starts again; its log has the cause. Send the request again when GET /readyz says that it is ready.",
        );
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #call<Answer>(call: Call, onToken?: InferOptions["onToken"]): Promise<Answer> {
    if (this.#closing) return Promise.reject(shuttingDown());
    if (this.#state.status !== "ready") return Promise.reject(this.#notReady());
    return new Promise<Answer>((resolve, reject) => {
      const id = this.#nextId++;
      this.#pending.set(id, { resolve: resolve as Pending["resolve"], reject, onToken });
      this.#post({ type: "call", id, ...call });
    });
  }

  #notReady(): ForewordError {
    const { status, phase, progress, error } = this.#state;
    if (status === "failed")
      return new ForewordError("backbone_unavailable", error ?? "The backbone cannot be served.");
    const percent = progress === null ? "" : ` (${Math.round(progress * 100)} %)`;
    return new ForewordError(
      "not_ready",
      `The backbone is not there yet: ${phase}${percent}. GET /readyz tells when it is.`,
      { phase, progress },
    );
  }

  #post(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }
}
