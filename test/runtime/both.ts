/** Runs one graph on both runtimes in one process, in the order that its arguments, or its worker data, name. */
import { tmpdir } from "node:os";
import { isMainThread, workerData } from "node:worker_threads";
import { GraphBuilder } from "../../src/graph/builder.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { RuntimeInfo } from "../../src/runtime/runtime.ts";

async function both(order: readonly string[]): Promise<void> {
  const runtimes = [];
  for (const name of order) runtimes.push(await createRuntime(name as RuntimeInfo["name"], 2));
  for (const { info, load } of runtimes) {
    const g = new GraphBuilder("square");
    const x = g.input("x", "float32", ["n", "n"]);
    const weights = { path: `${tmpdir()}/none`, entries: new Map() };
    const session = await load(g.finish({ y: g.op("MatMul", [x, x], {}) }), weights);
    const feed = { type: "float32" as const, dims: [2, 2], data: Float32Array.of(1, 2, 3, 4) };
    const { y } = await session.run({ x: feed }, ["y"]);
    console.log(info.name, info.backend, y!.data.join());
    await session.close();
  }
}

await both(isMainThread ? process.argv.slice(2) : (workerData as string[]));
