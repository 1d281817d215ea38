/** Prompts as files: the own one (`.safetensors`), and adapters of PEFT, in a folder or a zip archive. */
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fromBufferPromise } from "yauzl";
import type { PromptRecord } from "../contract/prompt.ts";
import { ForewordError } from "../errors.ts";
import { pickled } from "../prompt/peft/pickle.ts";
import { cutShort, jsonOf, request, route, type ServerFlags } from "./request.ts";

/** How the own file's name ends. */
const own = ".safetensors";
const adapterFiles = ["adapter_config.json", "adapter_model.safetensors"] as const;
/** Bytes of an archive's files in memory; an adapter has a few million, and a small archive may hold any number. */
const UNPACKED = 2 ** 30;

export interface ImportOptions {
  template?: string;
  taskIndex?: string;
  activate?: boolean;
}

/** Where a task's new version goes. */
export const promptsOf = (task: string, activate: boolean | undefined): string =>
  route`/tasks/${task}/prompts` + (activate ? "?activate=true" : "");

export async function importPrompt(
  flags: ServerFlags,
  task: string,
  from: string,
  { template, taskIndex, activate }: ImportOptions,
): Promise<PromptRecord> {
  const to = promptsOf(task, activate);
  const path = await stat(from).catch(error => unreadable(from, error));
  if (!path.isDirectory() && from.endsWith(own)) {
    const idle = template !== undefined ? "--template" : taskIndex !== undefined ? "--task-index" : null;
    if (idle) forAdapters(idle, from);
    const headers = { "content-type": "application/vnd.foreword.prompt+safetensors" };
    return send(flags, to, { headers, body: new Uint8Array(await read(from)) });
  }
  const form = new FormData();
  const files = path.isDirectory()
    ? await folderFiles(from)
    : await unpack(await read(from), from, adapterFiles);
  for (const [name, bytes] of files) form.append(name, new Blob([new Uint8Array(bytes)]), name);
  if (template !== undefined) form.append("template", template);
  if (taskIndex !== undefined) form.append("task_index", taskIndex);
  return send(flags, to, { body: form });
}

/** `to` says which: a `.safetensors` file, a `.zip` archive, or a folder for the archive's files. Returns what was written. */
export async function exportPrompt(
  flags: ServerFlags,
  task: string,
  version: string,
  to: string,
  peftType: string | undefined,
): Promise<string[]> {
  const whole = to.endsWith(own);
  if (whole && peftType !== undefined) forAdapters("--peft-type", to);
  const query = whole ? "format=safetensors" : `format=peft${peftType ? `&peft_type=${peftType}` : ""}`;
  const response = await request(flags, "GET", `${route`/tasks/${task}/prompts/${version}`}?${query}`);
  const bytes = Buffer.from(await response.arrayBuffer().catch(cutShort(flags.server)));
  const files = whole || to.endsWith(".zip") ? [[to, bytes] as const] : await unpackInto(to, bytes);
  for (const [path, content] of files) await writeFile(path, content).catch(error => unwritable(path, error));
  return files.map(([path]) => path);
}

/** The archive's files, as they are to stand in a folder, which is made. */
async function unpackInto(folder: string, archive: Buffer): Promise<(readonly [string, Buffer])[]> {
  await mkdir(folder, { recursive: true }).catch(error => unwritable(folder, error));
  const files = await unpack(archive, folder, [...adapterFiles, "README.md"]);
  return files.map(([name, content]) => [join(folder, name), content]);
}

async function send(flags: ServerFlags, path: string, body: RequestInit): Promise<PromptRecord> {
  return jsonOf<PromptRecord>(flags, await request(flags, "POST", path, body));
}

async function folderFiles(folder: string): Promise<[string, Buffer][]> {
  const there = await readdir(folder).catch(error => unreadable(folder, error));
  if (!there.includes(adapterFiles[1]) && there.includes("adapter_model.bin")) throw pickled();
  const files: [string, Buffer][] = [];
  // One after another: where both are missing, the first is always the one that is named.
  for (const name of adapterFiles) files.push([name, await read(join(folder, name))]);
  return files;
}

const read = (path: string): Promise<Buffer> => readFile(path).catch(error => unreadable(path, error));

/** The members of these names. */
const unpack = (archive: Buffer, path: string, names: readonly string[]): Promise<[string, Buffer][]> =>
  membersOf(archive, names).catch(error => unreadable(path, error));

/** Others are not even unpacked: they may be large, and could be written anywhere. */
async function membersOf(archive: Buffer, names: readonly string[]): Promise<[string, Buffer][]> {
  const zip = await fromBufferPromise(archive, { lazyEntries: true, autoClose: false });
  const members: [string, Buffer][] = [];
  let bytes = 0;
  for await (const entry of zip.eachEntry()) {
    if (!names.includes(entry.fileName)) continue;
    bytes += entry.uncompressedSize;
    if (bytes > UNPACKED) throw new Error(`more than ${UNPACKED / 2 ** 30} GiB unpacked`);
    if (entry.isEncrypted()) throw new Error("it is encrypted");
    members.push([entry.fileName, await buffer(await zip.openReadStreamPromise(entry))]);
  }
  return members;
}

function forAdapters(flag: string, path: string): never {
  throw new ForewordError(
    "validation",
    `${flag} is for adapters of PEFT, and ${path} is a file of Foreword's own. Leave it out, or name a folder or a .zip archive.`,
    { flag },
  );
}

function unreadable(path: string, error: Error): never {
  throw new ForewordError(
    "validation",
    `${path} can't be read (${error.message}). A prompt is a .safetensors file, or a folder or .zip archive with ${adapterFiles.join(" and ")}.`,
  );
}

function unwritable(path: string, error: Error): never {
  throw new ForewordError(
    "validation",
    `${path} can't be written (${error.message}). Name a .safetensors file or a .zip archive in a folder that is there, or a folder.`,
  );
}
