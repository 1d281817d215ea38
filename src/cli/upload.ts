/** A file of examples becomes a data set, as a stream. */
import { open } from "node:fs/promises";
import { extname } from "node:path";
import { Readable } from "node:stream";
import { type Command, Option } from "commander";
import type { Dataset } from "../contract/dataset.ts";
import type { TrainRequest } from "../contract/train.ts";
import { ForewordError } from "../errors.ts";
import { call, jsonOf, request, route, type ServerFlags } from "./request.ts";

interface Lines {
  count: number;
  lines: number[];
}

/** What the server says of a new data set. */
export interface Uploaded extends Dataset {
  duplicates: Lines;
  conflicts: Lines;
  leaks?: Lines;
}

export interface UploadOptions {
  id?: string;
  format?: "ndjson" | "csv";
  /** A data set that is trained on. */
  against?: string;
  /** What it is for: where there is no such task, nothing is sent. */
  task?: string;
}

/** A task, and examples for it; where some validate, `validation` is the share of them by default. */
export function takesExamples(command: Command, validation?: number): Command {
  command
    .argument("<task>", "the task's id")
    .argument(
      "<data>",
      "a file of examples, NDJSON or CSV (- is standard input); with --dataset a data set's id",
    );
  if (validation === undefined) command.option("--dataset", "<data> is the id of a data set of the server");
  else
    command
      .option(
        "--dataset",
        "<data>, and --validation unless it is a share, are ids of data sets of the server",
      )
      .option(
        "--validation <data>",
        `a share of the examples, such as 0.2, or a file of others (default: ${validation})`,
      );
  return command.addOption(formatOption());
}

export const formatOption = () =>
  new Option(
    "--format <format>",
    "how the file is written (default: csv for a .csv file, else ndjson)",
  ).choices(["ndjson", "csv"]);

/** `-` is standard input. Without an id, the server gives one that follows from the rows. */
export async function upload(
  flags: ServerFlags,
  file: string,
  { id, format = extname(file).toLowerCase() === ".csv" ? "csv" : "ndjson", against, task }: UploadOptions,
): Promise<Uploaded> {
  const query = new URLSearchParams({
    format,
    ...(id !== undefined && { id }),
    ...(against !== undefined && { against }),
  });
  const rows = await source(file);
  try {
    if (task !== undefined) await call(flags, "GET", route`/tasks/${task}`);
    const response = await request(flags, "POST", `/datasets?${query}`, {
      headers: { "content-type": format === "csv" ? "text/csv" : "application/x-ndjson" },
      body: Readable.toWeb(rows) as ReadableStream,
      duplex: "half",
    });
    return await jsonOf<Uploaded>(flags, response);
  } finally {
    // Standard input that stays open would keep the process from ending.
    rows.destroy();
  }
}

async function source(file: string): Promise<Readable> {
  if (file === "-") return process.stdin;
  const unreadable = (why: string) => new ForewordError("bad_dataset", `${file} can't be read (${why}).`);
  const handle = await open(file).catch(error => {
    throw unreadable((error as Error).message);
  });
  if ((await handle.stat()).isDirectory()) {
    await handle.close();
    throw unreadable("it is a folder");
  }
  return handle.createReadStream();
}

/** What a person should know of the rows. */
export function remarks(name: string, { id, rows, duplicates, conflicts, leaks }: Uploaded): string {
  const told = [
    [duplicates, "repeat an earlier one"],
    [conflicts, "have an input that came with another label before"],
    [leaks, "are trained on too, and are left out of validation"],
  ] as const;
  const notes = told.map(([found, what]) =>
    found && found.count > 0
      ? `  ${found.count} ${what}: line${found.count > 1 ? "s" : ""} ${found.lines.join(", ")}${found.lines.length < found.count ? ", …" : ""}\n`
      : "",
  );
  return `${name}: ${rows} examples, data set ${id}\n${notes.join("")}`;
}

/** Kept on the server as a data set, whose id follows from its rows: the same file again is the same one. */
export async function sent(
  flags: ServerFlags & Pick<UploadOptions, "format">,
  file: string,
  more: Pick<UploadOptions, "against" | "task">,
): Promise<string> {
  const { format } = flags;
  const uploaded = await upload(flags, file, { ...(format && { format }), ...more });
  if (!flags.json) process.stderr.write(remarks(file, uploaded));
  return uploaded.id;
}

export interface DataFlags extends ServerFlags, Pick<UploadOptions, "format"> {
  dataset?: boolean;
  validation?: string;
}

/** Examples and validation as requests name them: files are kept on the server, ids and shares stay as they are. */
export async function dataOf(
  { dataset, validation, ...flags }: DataFlags,
  task: string,
  data: string,
): Promise<Pick<TrainRequest, "dataset" | "validation">> {
  const share = validation === undefined || validation.trim() === "" ? Number.NaN : Number(validation);
  const apart = validation === undefined ? null : Number.isNaN(share) ? validation : share;
  if (dataset) return { dataset: data, ...(apart !== null && { validation: apart }) };
  const id = await sent(flags, data, { task });
  if (typeof apart !== "string") return { dataset: id, ...(apart !== null && { validation: apart }) };
  return { dataset: id, validation: await sent(flags, apart, { against: id }) };
}
