import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { search } from "../../../src/cli/search.ts";
import { readText } from "../../../src/cli/text-file.ts";
import { train } from "../../../src/cli/train.ts";
import { run } from "./command.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-text-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function fileOf(bytes: Uint8Array): Promise<string> {
  const path = join(folder, `${Math.random()}`);
  await writeFile(path, bytes);
  return path;
}

const list = '[{"template":"Ist „{{ input }}“ gut?"}]';
const data = ["t", "data", "--dataset"];

test("a byte order mark is no part of a text", async () => {
  const file = await fileOf(Buffer.from(`\ufeff${list}`));
  expect(await readText(file)).toBe(list);
  const searched = await run(search(), [...data, "--candidates", file, "--detach"], { reply: { id: "job" } });
  expect(searched.body).toMatchObject({ candidates: JSON.parse(list) });
  const trained = await run(train(), [...data, "--teacher", file, "--detach"], { reply: { id: "job" } });
  expect(trained.body).toMatchObject({ teacher: { text: list } });
});

test.each([
  ["UTF-16", Buffer.from("\ufeff[]", "utf16le")],
  ["Latin-1", Buffer.from("[é]", "latin1")],
])("%s is refused with the file and what to do", async (_, bytes) => {
  const file = await fileOf(bytes);
  const wanted = new RegExp(`${file}.* can't be read.*it is no UTF-8: save it as UTF-8\\)\\.$`);
  for (const [command, flag] of [
    [search(), "--candidates"],
    [train(), "--teacher"],
  ] as const) {
    const { body, error } = await run(command, [...data, flag, file]);
    expect(error!.message).toMatch(wanted);
    expect(body).toBeUndefined();
  }
});
