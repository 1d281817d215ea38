/** Threads whose module stands beside this one. */
import { Worker, type WorkerOptions } from "node:worker_threads";

/** Run from source (tests, development), the module is TypeScript: one of two lines registers the loader first. */
export function startThread(name: string, options: WorkerOptions): Worker {
  if (!import.meta.url.endsWith(".ts")) return new Worker(new URL(`./${name}.js`, import.meta.url), options);
  const loader = JSON.stringify(import.meta.resolve("tsx/esm/api"));
  const entry = JSON.stringify(new URL(`./${name}.ts`, import.meta.url).href);
  const module = `import { register } from ${loader}; register(); await import(${entry});`;
  return new Worker(new URL(`data:text/javascript,${encodeURIComponent(module)}`), options);
}
