/** A document's shell blocks, and a copy of the checkout to run them in, as a reader does. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface Block {
  /** Of the section that it stands in. */
  heading: string;
  script: string;
}

export async function blocksOf(document: string): Promise<Block[]> {
  const text = await readFile(join(root, document), "utf8");
  const blocks: Block[] = [];
  let heading = "";
  for (const [, title, script] of text.matchAll(/^#+ (.+)$|^```sh\n([\s\S]*?)^```$/gm)) {
    if (title !== undefined) heading = title;
    else blocks.push({ heading, script: script! });
  }
  return blocks;
}

/** As `curl`, but it fails where the server refuses, and keeps a job's id in `.job`. */
const curl = (path: string) => `#!/usr/bin/env bash
set -o pipefail
${path} --fail-with-body "$@" | tee .reply
status=$?
grep -q '"state"' .reply && grep -om1 '"id":"[^"]*"' .reply | head -1 | cut -d'"' -f4 > .job
exit $status
`;

export class Reader {
  readonly folder: string;
  readonly #env: Record<string, string>;
  readonly #running = new Set<ChildProcess>();

  private constructor(folder: string, env: Record<string, string>) {
    this.folder = folder;
    this.#env = env;
  }

  /** Tracked files alone; packages are those of this checkout. */
  static async arrive(env: Record<string, string>): Promise<Reader> {
    const folder = await mkdtemp(join(tmpdir(), "foreword-docs-"));
    execFileSync("bash", ["-c", `git ls-files -z | xargs -0 cp --parents -t "${folder}"`], { cwd: root });
    await symlink(join(root, "node_modules"), join(folder, "node_modules"));
    await mkdir(join(folder, ".bin"));
    const real = execFileSync("bash", ["-c", "command -v curl"]).toString().trim();
    await writeFile(join(folder, ".bin/curl"), curl(real));
    await chmod(join(folder, ".bin/curl"), 0o755);
    return new Reader(folder, { ...env, PATH: `${join(folder, ".bin")}:${process.env.PATH}` });
  }

  /** Examples, one a line. */
  async write(name: string, examples: readonly object[]): Promise<void> {
    await writeFile(join(this.folder, name), examples.map(each => `${JSON.stringify(each)}\n`).join(""));
  }

  /** What the script said. Throws where a command of it fails. */
  async run(script: string): Promise<string> {
    const { child, output } = this.#spawn(script);
    const code = await new Promise(resolve => child.once("close", resolve));
    if (code !== 0) throw new Error(`${script}\nended with ${code}:\n${output()}`);
    return output();
  }

  /** Leaves it running, and resolves when it is `ready`. */
  async start(script: string, ready: (output: string) => boolean | Promise<boolean>): Promise<void> {
    const { child, output } = this.#spawn(script);
    while (!(await ready(output()))) {
      if (child.exitCode !== null) throw new Error(`${script}\nended with ${child.exitCode}:\n${output()}`);
      await new Promise(resolve => setTimeout(resolve, 200));
    }
  }

  async leave(): Promise<void> {
    const ended = [...this.#running].map(child => new Promise(resolve => child.once("close", resolve)));
    // npm runs what it starts in its own group.
    for (const child of this.#running) process.kill(-child.pid!, "SIGTERM");
    await Promise.all(ended);
    await rm(this.folder, { recursive: true, force: true });
  }

  #spawn(script: string): { child: ChildProcess; output: () => string } {
    const child = spawn("bash", ["-e", "-o", "pipefail", "-c", script], {
      cwd: this.folder,
      env: { ...process.env, ...this.#env },
      detached: true,
    });
    this.#running.add(child);
    child.once("close", () => this.#running.delete(child));
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", chunk => {
        said += chunk;
      });
    return { child, output: () => said };
  }
}
