/** Lists of prompts, which read no parameters; and records of an earlier version, which do not say what they are made of. */
import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { PromptRecord } from "../../src/contract/prompt.ts";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import type { Row } from "../../src/registry/store.ts";
import { inTurn } from "../registry/records.ts";
import { tinyBackbone } from "../support/tiny.ts";
import { files, startServer } from "./server.ts";

test("a list tells what prompts are made of without their parameters, and of older records by them", async () => {
  const data = await mkdtemp(join(tmpdir(), "foreword-listing-"));
  const backbone = await tinyBackbone("llama", false);
  const serve = () => startServer(backbone.path, { data, precision: "fp32" });
  let server = await serve();
  onTestFinished(async () => {
    await server.close();
    await backbone.remove();
    await rm(data, { recursive: true, force: true });
  });
  await server.task({ id: "t", labels: ["yes", "no"], prompt: { template: "Say {{ input }}\nSo:" } });
  const report = await server.backbone();
  for (const file of [files.prefix(report), files.soft(report)])
    expect((await server.upload("t", file)).status).toBe(201);
  const on = { task: "t", version: 2 };
  expect((await server.post("/tasks/t/prompts", { from: { task: "t", version: 3 }, on })).status).toBe(201);

  const blobs = join(data, "registry", "blobs");
  const listed = async () => {
    const { status, body } = await server.get("/tasks/t/prompts");
    expect(status, JSON.stringify(body)).toBe(200);
    return body.items.map(({ pieces }: { pieces: object[] }) => pieces);
  };
  const review = [
    { text: "Review: ", frozen: true },
    { field: "input", frozen: true },
  ];
  const told = await listed();
  expect(told[1].slice(0, 3)).toEqual([{ prefix: 4, trained: true }, ...review]);
  expect(told[2].slice(0, 3)).toEqual([{ soft: 3, trained: true }, ...review]);
  expect(told[3].slice(0, 3)).toEqual([{ prefix: 4, frozen: true }, review[0], { soft: 3, trained: true }]);
  await rename(blobs, `${blobs}-away`);
  expect(await listed()).toEqual(told);
  await rename(`${blobs}-away`, blobs);

  await server.close();
  const registry = await openLmdbRegistry(join(data, "registry"));
  const older = await registry.snapshot(async rows => {
    const found: Row[] = [];
    for await (const { key, row } of rows) {
      const { pieces, ...rest } = row as PromptRecord;
      found.push({ key, row: key[0] === "prompt" ? rest : row });
    }
    return found;
  });
  await registry.replaceRows(inTurn(older));
  await registry.close();
  server = await serve();
  expect(await listed()).toEqual(told);
});
