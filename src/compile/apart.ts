/** Compiling in a process of its own: what it takes, most of a gigabyte, is given back when it ends. */
import { type BackboneSource, parametersOf } from "../backbone/source.ts";
import { shuttingDown } from "../errors.ts";
import { startProcess } from "../processes.ts";
import type { Progress } from "./backbone.ts";
import type { OpenSettings } from "./open.ts";
import { areCompiled, type VariantsOptions } from "./variants.ts";

/** Parameters of a backbone; compiling a smaller one takes less than starting a process. */
const WORTH = 2 ** 26;

export type ToCompiler = OpenSettings;
export interface FromCompiler {
  phase: string;
  done: number | null;
}

/**
 * Afterwards what can be compiled is on disk; what could not is left to the caller, who then hears why. Throws `draining`
 * once `signal` is aborted.
 */
export async function compileApart(
  settings: OpenSettings,
  source: BackboneSource,
  options: VariantsOptions,
  progress: Progress,
  { signal, worth = WORTH }: { signal?: AbortSignal | undefined; worth?: number } = {},
): Promise<void> {
  if (parametersOf(source) < worth) return;
  if (await areCompiled(source, options, progress)) return;
  const child = startProcess(new URL("./process", import.meta.url));
  child.on("message", ({ phase, done }: FromCompiler) => progress(phase, done));
  const { backbone, cache, runtime, threads, precision } = settings;
  child.send({ backbone, cache, runtime, threads, precision } satisfies ToCompiler);
  const kill = () => void child.kill();
  signal?.addEventListener("abort", kill);
  if (signal?.aborted) kill();
  await new Promise(resolve => {
    child.once("exit", resolve);
    child.once("error", resolve);
  });
  signal?.removeEventListener("abort", kill);
  if (signal?.aborted) throw shuttingDown();
}
