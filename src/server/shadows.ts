/**
 * Shadows: a share of a task's inputs is answered by a candidate too, in the background and after the caller has the
 * reply, to be compared with it. The counts are of this server since what is active was chosen; `/metrics` has them as
 * counters, for whoever adds up all servers.
 */
import { setMaxListeners } from "node:events";
import type { InferReply, InferRequest, Input } from "../contract/infer.ts";
import type { Active, ShadowReport, Task } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";
import type { Metrics } from "../observe/metrics.ts";
import { type Answering, answer } from "./answer.ts";

/** Answers that wait at most; more are dropped. */
const WAITING = 256;
/** How long one may wait for the server to be free. */
const PATIENCE_MS = 60_000;

type Outcome = "agreed" | "differed" | "failed" | "dropped";

interface Counts extends Record<Outcome, number> {
  /** When the task was created and its active record's revision: the counts belong to both. */
  born: string;
  revision: number;
  since: string;
  failure: string | null;
}

export class Shadows {
  readonly #services: Answering & { metrics: Metrics };
  readonly #counts = new Map<string, Counts>();
  /** Tasks whose revision may have gone back. */
  readonly #doubted = new Set<string>();
  readonly #closing = new AbortController();
  #waiting = 0;

  constructor(services: Answering & { metrics: Metrics }) {
    this.#services = services;
    setMaxListeners(0, this.#closing.signal);
  }

  /** Asks the candidate, if the task has one and this input is of its share. Never throws, and nobody waits for it. */
  follow(task: Task, request: InferRequest, input: Input, reply: InferReply): void {
    const shadow = request.prompt === undefined ? task.active?.shadow : undefined;
    if (!shadow || Math.random() >= shadow.share) return;
    const counts = this.#of(task);
    // Asked before something else was activated: it is of no count that is kept.
    if (counts.revision !== task.active_revision) return;
    const count = (outcome: Outcome) => {
      counts[outcome]++;
      this.#services.metrics.shadowAnswers.inc({ task: task.id, version: shadow.prompt, outcome });
    };
    if (this.#waiting >= WAITING) {
      count("dropped");
      return;
    }
    this.#waiting++;
    void this.#ask(task, request, input, shadow.prompt)
      .then(
        candidate => count(same(reply, candidate) ? "agreed" : "differed"),
        (error: Error) => {
          const dropped = error instanceof ForewordError && passing.includes(error.code);
          if (!dropped) counts.failure = error.message;
          count(dropped ? "dropped" : "failed");
        },
      )
      .finally(() => this.#waiting--);
  }

  report(task: Task): ShadowReport {
    const { agreed, differed, failed, dropped, since, failure } = this.#of(task);
    const compared = agreed + differed;
    return {
      shadow: task.active?.shadow ?? null,
      since,
      compared,
      agreed,
      agreement: compared === 0 ? null : agreed / compared,
      failed,
      dropped,
      last_failure: failure,
    };
  }

  /** The registry may have other rows now: of a task whose revision went back the counts begin anew. */
  doubt(): void {
    for (const id of this.#counts.keys()) this.#doubted.add(id);
  }

  /** What waits is dropped: a server that stops does not wait for it. */
  close(): void {
    this.#closing.abort();
  }

  #of({ id, created_at: born, active_revision: revision, active }: Task): Counts {
    const known = this.#counts.get(id);
    const ahead = known !== undefined && known.revision > revision;
    if (known?.born === born && (known.revision === revision || (ahead && !this.#doubted.has(id))))
      return known;
    this.#doubted.delete(id);
    const zeros = { agreed: 0, differed: 0, failed: 0, dropped: 0, failure: null };
    const counts = { ...zeros, born, revision, since: new Date().toISOString() };
    if (active?.shadow) this.#counts.set(id, counts);
    return counts;
  }

  /** What was fitted to the active prompt is not the candidate's; how sure a label must be is the task's. */
  #ask(task: Task, request: InferRequest, input: Input, version: number): Promise<InferReply> {
    const { prompt, scores, members, targets, logprobs, stream, ...rest } = request;
    const { unsure_below } = task.active!;
    const active: Active = { prompt: version, ...(unsure_below !== undefined && { unsure_below }) };
    return answer(this.#services, { ...task, active }, rest, input, {
      deadline: Date.now() + PATIENCE_MS,
      signal: this.#closing.signal,
      background: true,
    });
  }
}

/** What ends an answer that is not the candidate's fault. */
const passing = ["deadline", "queue_full", "draining"];

const same = (reply: InferReply, candidate: InferReply): boolean =>
  reply.label === candidate.label && reply.text === candidate.text;
