import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { exportPrompt, importPrompt } from "../../src/cli/prompt-files.ts";
import { type Served, serveTiny } from "../http/adapter-server.ts";
import { adapters, readAdapter } from "../support/adapter.ts";
import { foreword } from "../support/command.ts";
import { zip } from "../support/zip.ts";

let served: Served;
let scratch: string;
beforeAll(async () => {
  served = await serveTiny("llama", false);
  scratch = await mkdtemp(join(tmpdir(), "foreword-prompt-files-"));
});
afterAll(async () => {
  await served?.close();
  await rm(scratch, { recursive: true, force: true });
});

const to = () => ({ server: served.server.url });
const json = async (...args: string[]) => {
  const { code, out, err } = await foreword(["prompts", ...args, "--server", served.server.url, "--json"]);
  expect(code, err).toBe(0);
  return JSON.parse(out);
};

test("an adapter goes from a folder to an archive, a folder, a file, and back", async () => {
  const { version } = await importPrompt(to(), "next", join(adapters, "llama/prefix"), {});
  const wanted = await served.logP(version);
  const [archive, folder, file] = ["a.zip", "a", "a.safetensors"].map(name => join(scratch, name));
  for (const path of [archive!, folder!, file!]) {
    const written = await exportPrompt(to(), "next", `${version}`, path, undefined);
    expect(written).toHaveLength(path === folder ? 3 : 1);
    const back = await importPrompt(to(), "next", path, {});
    expect(back.kind).toBe("prefix");
    expect(await served.logP(back.version)).toBe(wanted);
  }
  expect(await readdir(folder!)).toEqual(["README.md", "adapter_config.json", "adapter_model.safetensors"]);
});

test("options reach the server: template, task, activation, PEFT's type", async () => {
  const from = join(adapters, "llama/multitask");
  const template = "Well: {{ input }}\nThen:";
  const made = await json(
    ...["import", "next", from, "--task-index", "2", "--template", template, "--activate"],
  );
  expect(made).toMatchObject({ template: `{{ soft(5) }}${template}`, recipe: { task_index: 2 } });
  expect((await served.server.get("/tasks/next")).body.active).toEqual({ prompt: made.version });
  const folder = join(scratch, "soft");
  await json("export", "next", `${made.version}`, folder, "--peft-type", "PROMPT_TUNING");
  const config = JSON.parse(await readFile(join(folder, "adapter_config.json"), "utf8"));
  expect(config).toMatchObject({ peft_type: "PROMPT_TUNING", num_virtual_tokens: 5 });
});

test("options of adapters are refused where the file is Foreword's own", async () => {
  const file = join(scratch, "own.safetensors");
  await expect(exportPrompt(to(), "next", "1", file, "PROMPT_TUNING")).rejects.toThrow(/^--peft-type is for/);
  await expect(stat(file)).rejects.toThrow();
  await writeFile(file, "x");
  const refused = (options: object) => expect(importPrompt(to(), "next", file, options)).rejects;
  await refused({ template: "{{ input }}" }).toThrow(/^--template is for adapters of PEFT/);
  await refused({ taskIndex: "1" }).toThrow(/^--task-index is for adapters of PEFT/);
});

test("what can't be read or taken is said", async () => {
  const pickled = join(scratch, "pickled");
  await mkdir(pickled);
  await writeFile(join(pickled, "adapter_model.bin"), "x");
  const none = join(scratch, "no.zip");
  await writeFile(none, "hello");
  for (const [from, message] of [
    ["/nothing", /\/nothing can't be read/],
    [scratch, /adapter_config\.json can't be read.*folder or \.zip archive/],
    [none, /no\.zip can't be read/],
    [pickled, /safe_serialization=True/],
    [join(adapters, "llama/multitask"), /task_index.*0 to 2/],
  ] as const)
    await expect(importPrompt(to(), "next", from, {})).rejects.toThrow(message);
});

/** A zip archive whose first member's entry in the central directory says something else. */
function zipSaying(members: Record<string, Buffer>, change: (entry: Buffer) => void): Buffer {
  const archive = zip(members);
  change(archive.subarray(archive.indexOf("PK\x01\x02")));
  return archive;
}
const deflated = (entry: Buffer) => void entry.writeUInt16LE(8, 10);

test("an archive that is damaged, encrypted, out of its folder or too large is refused, as is a file", async () => {
  const member = { "adapter_model.safetensors": Buffer.from([7, 7, 7]) };
  const encrypted = (entry: Buffer) => {
    deflated(entry);
    entry.writeUInt16LE(1, 8);
  };
  const large = (entry: Buffer) => {
    deflated(entry);
    entry.writeUInt32LE(2 ** 31, 24);
  };
  for (const [archive, why] of [
    [zipSaying(member, deflated), "invalid block type"],
    [zipSaying(member, encrypted), "it is encrypted"],
    [zip({ "../x": Buffer.from("x") }), "invalid relative path: ../x"],
    [zipSaying(member, large), "more than 1 GiB"],
  ] as const) {
    const from = join(scratch, "bad.zip");
    await writeFile(from, archive);
    await expect(importPrompt(to(), "next", from, {})).rejects.toMatchObject({
      code: "validation",
      message: expect.stringContaining(`bad.zip can't be read (${why}`),
    });
  }
  const huge = join(scratch, "huge");
  for (const from of [`${huge}.safetensors`, `${huge}.zip`]) {
    await writeFile(from, "");
    await truncate(from, 2 ** 31 + 1);
    await expect(importPrompt(to(), "next", from, {})).rejects.toMatchObject({
      code: "validation",
      message: expect.stringMatching(/can't be read \(.*2 GiB\)/),
    });
  }
});

test("only an adapter's files are unpacked", async () => {
  const adapter = readAdapter(join(adapters, "llama/prefix"));
  const from = join(scratch, "more.zip");
  await writeFile(from, zipSaying({ "junk.bin": Buffer.from([7, 7, 7]), ...adapter }, deflated));
  expect(await importPrompt(to(), "next", from, {})).toMatchObject({ kind: "prefix" });
});

test("a place that can't be written to is named", async () => {
  const { version } = await importPrompt(to(), "next", join(adapters, "llama/prefix"), {});
  const taken = join(scratch, "taken");
  await writeFile(taken, "x");
  for (const place of ["/nonexistent/dir/x.safetensors", "/nonexistent/x.zip", taken, join(taken, "below")])
    await expect(exportPrompt(to(), "next", `${version}`, place, undefined)).rejects.toMatchObject({
      code: "validation",
      message: expect.stringMatching(
        new RegExp(`^${place} can't be written \\((ENOENT|EEXIST|ENOTDIR).*folder`),
      ),
    });
});
