/** What tests compile is kept for those that come later, in a folder for each state of the sources that made it. */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from "node:fs";
import { symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Folders of src/ that decide what is compiled, and what the check of int8 finds. */
const makers = ["autodiff", "backbone", "compile", "graph", "runtime", "tensor"];
const NAME = "foreword-test-compiled-";
/** That a folder of other sources is left alone for: another checkout's tests may be running. */
const HOUR_MS = 3_600_000;

const folder = join(tmpdir(), NAME + digest());

/** Compiled backbones of every suite; nobody removes it. */
export function sharedCache(): string {
  if (mkdirSync(folder, { recursive: true }) !== undefined) sweep();
  const now = new Date();
  utimesSync(folder, now, now);
  return folder;
}

/** For a data folder: what is compiled there is shared. */
export const shareCompiled = (data: string): Promise<void> => symlink(sharedCache(), join(data, "compiled"));

function digest(): string {
  const hash = createHash("sha256");
  for (const maker of makers) {
    const root = fileURLToPath(new URL(`../../src/${maker}`, import.meta.url));
    const names = readdirSync(root, { recursive: true, encoding: "utf8" });
    for (const name of names.filter(each => each.endsWith(".ts")).sort())
      hash.update(`${maker}/${name}\n`).update(readFileSync(join(root, name)));
  }
  return hash.digest("hex").slice(0, 12);
}

/** Each is a gigabyte. */
function sweep(): void {
  for (const name of readdirSync(tmpdir()).filter(each => each.startsWith(NAME))) {
    const path = join(tmpdir(), name);
    if (Date.now() - statSync(path).mtimeMs > HOUR_MS) rmSync(path, { recursive: true, force: true });
  }
}
