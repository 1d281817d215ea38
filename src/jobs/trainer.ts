/** A trainer's process, from its start to its end. */
import { ForewordError } from "../errors.ts";
import { startProcess } from "../processes.ts";
import type { FromTrainer, ToTrainer, TrainerPlace, Work, WorkKind, Works } from "../training/protocol.ts";
import { Interrupted, type JobControl } from "./jobs.ts";

export interface TrainerOptions {
  place: Omit<TrainerPlace, "precision">;
  /** Calls back at once and at every change: whether requests wait. Returns how to stop. */
  watchBusy: (listener: (busy: boolean) => void) => () => void;
  log: { error(fields: object, text: string): void };
}

/** Throws the trainer's problem, `Interrupted` where its process ended, and the signal's reason where it was stopped. */
export function runTrainer<Kind extends WorkKind>(
  { place, watchBusy, log }: TrainerOptions,
  precision: TrainerPlace["precision"],
  kind: Kind,
  job: Works[Kind]["job"],
  { signal, progress, checkpoint, log: tell }: JobControl,
): Promise<Works[Kind]["outcome"]> {
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const child = startProcess(new URL("../training/process", import.meta.url), keeping);
    // One that has ended hears nothing: `exit` tells of it, and a write that failed would be an error of the child.
    const send = (message: ToTrainer) => child.connected && child.send(message, () => {});
    // Nothing is lost by killing it: what counts is in the checkpoint.
    const stop = () => child.kill("SIGKILL");
    signal.addEventListener("abort", stop);
    const unwatch = watchBusy(busy => send({ type: "busy", busy }));
    child.on("message", (message: FromTrainer) => {
      if (message.type === "progress") progress(message.progress);
      else if (message.type === "log") tell(message.text);
      else if (message.type === "done") resolve(message.outcome);
      else if (message.type === "checkpoint")
        checkpoint(message.bytes).then(
          () => send({ type: "saved" }),
          error => {
            reject(error);
            stop();
          },
        );
      else {
        if (message.cause) log.error({ cause: message.cause }, "a trainer failed");
        reject(ForewordError.fromProblem(message.problem));
      }
    });
    const leave = () => {
      signal.removeEventListener("abort", stop);
      unwatch();
    };
    // Heard as long as the child is there: an error without a listener ends the server. One that can't start never exits.
    child.on("error", error => {
      leave();
      reject(error);
    });
    child.once("exit", (code, killedBy) => {
      leave();
      reject(signal.aborted ? signal.reason : new Interrupted(`The trainer ended with ${killedBy ?? code}.`));
    });
    send({ type: "start", work: { kind, job } as Work, place: { ...place, precision } });
  });
}

/**
 * The C library (mallopt(3)) keeps up to 256 MB of what was freed, in one heap, and takes only larger tensors from the
 * system by themselves: to get the tensors of a long row anew each time was a third of its gradient's time. Left alone
 * it learns to keep any amount.
 */
const keeping = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: String(2 ** 25),
  MALLOC_TRIM_THRESHOLD_: String(2 ** 28),
};
