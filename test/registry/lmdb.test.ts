import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";
import { registryContract } from "./contract.ts";

const folders: string[] = [];
async function freshFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "foreword-registry-"));
  folders.push(folder);
  return folder;
}
afterAll(() => Promise.all(folders.map(folder => rm(folder, { recursive: true, force: true }))));

registryContract("lmdb", async () => openLmdbRegistry(await freshFolder()));
