/** The registry's refusals, worded once for every implementation, and the checks that need no store. */
import { ForewordError, invalid } from "../errors.ts";

export const taskExists = (id: string) =>
  new ForewordError("task_exists", `Task "${id}" exists; choose another id, or delete it first.`, {
    task: id,
  });

export const taskNotFound = (id: string) =>
  new ForewordError("task_not_found", `There is no task "${id}"; GET /tasks lists them.`, { task: id });

export const taskIsAnother = (id: string) =>
  new ForewordError(
    "task_not_found",
    `The task "${id}" that was meant is deleted; the one that has its name now was created later. Send it again for that one.`,
    { task: id },
  );

export const promptNotFound = (task: string, version: number) =>
  new ForewordError(
    "prompt_not_found",
    `Task "${task}" has no prompt ${version}; GET /tasks/${task}/prompts lists them.`,
    { task, version },
  );

export const promptInUse = (task: string, version: number) =>
  new ForewordError(
    "prompt_in_use",
    `Prompt ${version} is active; activate another one by PUT /tasks/${task}/active before deleting it.`,
    { task, version },
  );

export const datasetNotFound = (id: string) =>
  new ForewordError("dataset_not_found", `There is no data set "${id}"; GET /datasets lists them.`, {
    dataset: id,
  });

export const jobNotFound = (id: string) =>
  new ForewordError("job_not_found", `There is no job "${id}"; GET /jobs lists them.`, { job: id });

export const jobLeft = (id: string) =>
  new ForewordError(
    "revision_conflict",
    `Job "${id}" has ended, or runs elsewhere; it writes nothing here.`,
    {
      job: id,
    },
  );

export const jobExists = (id: string) =>
  new ForewordError("validation", `Job id "${id}" is taken.`, { field: "id" });

export const backupExists = (name: string) =>
  invalid("name", `there is a backup ${name} already. Choose another name.`);

export const idempotencyConflict = (key: string) =>
  new ForewordError(
    "idempotency_conflict",
    "This Idempotency-Key came with another request within 24 hours; use a new key for a new request.",
    { idempotency_key: key },
  );

export const unavailable = (detail: string, cause?: unknown) =>
  new ForewordError("registry_unavailable", detail, {}, { cause });

const blobProblem = (sha256: string, what: string) =>
  new ForewordError("registry_unavailable", `Blob ${sha256} is ${what}`, { blob: sha256 });
export const blobMissing = (sha256: string) => blobProblem(sha256, "not there; put it before what names it.");
export const blobDamaged = (sha256: string) => blobProblem(sha256, "damaged; restore it from a backup.");

export const closed = () => unavailable("The registry is closed; the server is stopping.");

/** Unlike others with its code, it does not pass. */
export const takenOver = () =>
  new ForewordError(
    "registry_unavailable",
    "Another process has taken over the data folder while this one stood still, and has it now. Stop one of the two.",
    { taken_over: true },
  );

/** Compares what the caller saw with what is; undefined is "whatever is there". */
export function checkRevision(what: string, expected: number | undefined, actual: number): void {
  if (expected === undefined || expected === actual) return;
  throw new ForewordError(
    "revision_conflict",
    `${what} is at revision ${actual}, not ${expected}; read it again and repeat the change.`,
    { expected, actual },
  );
}
