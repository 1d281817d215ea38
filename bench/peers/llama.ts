/** llama.cpp beside Foreword, as node-llama-cpp brings it prebuilt: the same weights as F16, installed on first use. */
import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ensurePython, peersFolder } from "./python.ts";

export interface Generated {
  seconds: number;
  /** Tokens, over all rows. */
  input: number;
  output: number;
}

/** What llama.cpp says of itself. */
export interface LlamaBuild {
  /** `prebuilt`, or `localBuild`. */
  build: string;
  release: string;
  /** What of the processor it uses. */
  system: string;
}

export class LlamaCpp {
  readonly about: LlamaBuild;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, about: LlamaBuild) {
    this.#child = child;
    this.about = about;
  }

  /** Throws where npm, Python or the packages are missing. */
  static async start(gguf: string, threads: number): Promise<LlamaCpp> {
    const child = fork(join(peersFolder, "llama.mjs"), [asF16(gguf), String(threads)]);
    const [about] = await once(child, "message");
    return new LlamaCpp(child, about);
  }

  async generate(texts: readonly string[], tokens: number): Promise<Generated> {
    this.#child.send({ texts, tokens });
    const [reply] = await once(this.#child, "message");
    return reply;
  }

  stop(): void {
    this.#child.kill();
  }
}

/** The path of the F16 file, made once. */
function asF16(gguf: string): string {
  const run = (command: string, ...options: string[]) =>
    execFileSync(command, options, { cwd: peersFolder, stdio: ["ignore", "ignore", "inherit"] });
  // Not `npm ci`: it refuses where a registry lacks another platform's optional package.
  if (!existsSync(join(peersFolder, "node_modules/node-llama-cpp"))) run("npm", "install", "--no-save");
  const file = join(peersFolder, ".venv/f16.gguf");
  if (existsSync(file)) return file;
  run(ensurePython("requirements.txt"), "f16.py", gguf, file);
  return file;
}
