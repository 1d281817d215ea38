/** The peers' Python: one virtual environment, filled with what a bench needs on first use. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const peersFolder = fileURLToPath(new URL(".", import.meta.url));
const environment = join(peersFolder, ".venv");

export type Requirements =
  | "requirements.txt"
  | "requirements-bleu.txt"
  | "requirements-training.txt"
  | "requirements-deploy.txt";

/** The interpreter of an environment that has these packages. Throws where Python or a package cannot be had. */
export function ensurePython(requirements: Requirements): string {
  const python = join(environment, "bin/python");
  const digest = createHash("sha256")
    .update(readFileSync(join(peersFolder, requirements)))
    .digest("hex");
  const done = join(environment, `installed-${digest.slice(0, 12)}`);
  if (existsSync(done)) return python;
  const run = (command: string, ...options: string[]) =>
    execFileSync(command, options, { cwd: peersFolder, stdio: ["ignore", "ignore", "inherit"] });
  if (!existsSync(python)) run("python3", "-m", "venv", ".venv");
  run(python, "-m", "pip", "install", "--quiet", "-r", requirements);
  writeFileSync(done, `${requirements}\n`);
  return python;
}

/** A script of the peers, spoken to in lines of JSON. What it says to people goes to standard error. */
export class PythonPeer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(script: string, args: readonly string[], threads: number) {
    const python = ensurePython("requirements-training.txt");
    this.#child = spawn(python, [join(peersFolder, script), ...args], {
      stdio: ["pipe", "pipe", "inherit"],
      env: {
        ...process.env,
        OMP_NUM_THREADS: String(threads),
        MKL_NUM_THREADS: String(threads),
        TOKENIZERS_PARALLELISM: "false",
        HF_HUB_OFFLINE: "1",
        PYTHONWARNINGS: "ignore",
        TQDM_DISABLE: "1",
        TRANSFORMERS_VERBOSITY: "error",
        CUDA_VISIBLE_DEVICES: "",
      },
    });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  send(message: object): void {
    this.#child.stdin!.write(`${JSON.stringify(message)}\n`);
  }

  /** The next line. Throws where the script has ended. */
  async receive<Message>(): Promise<Message> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the peer ended: its messages are above`);
    return JSON.parse(value) as Message;
  }

  async ask<Message>(message: object): Promise<Message> {
    this.send(message);
    return this.receive<Message>();
  }

  stop(): void {
    this.#child.kill();
  }
}
