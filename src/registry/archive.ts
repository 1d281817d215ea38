/**
 * A registry as one file: a zip archive of `manifest.json`, `rows.ndjson` (a line a row, `[key, row]`, as it is kept) and
 * `blobs/<sha256>`. The manifest has the rows' SHA-256 and what they are; a blob's name is its own. Versions, revisions,
 * history and ids stay what they were. A job that has not ended is left out: it belongs to the queue that runs it.
 */
import { type Static, Type } from "typebox";
import { ForewordError } from "../errors.ts";
import type { Row } from "./store.ts";

export const MANIFEST = "manifest.json";
export const ROWS = "rows.ndjson";
export const BLOBS = "blobs/";
export const FORMAT = "foreword-archive/1";

const Count = Type.Integer({ minimum: 0 });
const Sha256 = Type.String({ pattern: "^[0-9a-f]{64}$" });

export const Manifest = Type.Object({
  format: Type.Literal(FORMAT),
  created_at: Type.String(),
  rows: Type.Object({ count: Count, sha256: Sha256 }),
  blobs: Count,
  tasks: Count,
  prompts: Count,
  datasets: Count,
  jobs: Count,
  left_out: Type.Object({ open_jobs: Count }),
});
export type Manifest = Static<typeof Manifest>;

/** The manifest's counts that a row is one of. */
export const countOf = ([kind]: Row["key"]): "tasks" | "prompts" | "datasets" | "jobs" | null => {
  if (kind === "task") return "tasks";
  if (kind === "prompt") return "prompts";
  if (kind === "dataset") return "datasets";
  return kind === "job" ? "jobs" : null;
};

export const refused = (path: string, why: string): ForewordError =>
  new ForewordError("validation", `${path}: ${why}`, { field: "file" });
