/**
 * Foreword's side: a training run in a process of its own, at the bench's own priority, that goes on only when it is told
 * to. It is the product's own loop (src/training/run.ts); its hooks hold it up between micro-batches.
 */
import { join } from "node:path";
import { openCore } from "../../src/engine/open.ts";
import { train } from "../../src/training/run.ts";
import { Shelf } from "../../src/training/shelf.ts";
import type { FromChild, ToChild } from "./child.ts";

/** Steps that may still be taken; a run stands still at none. */
let budget = 0;
let go = () => {};
const times: number[] = [];
let since = 0;

const send = (message: FromChild) => process.send!(message);

process.once("disconnect", () => process.exit(0));
process.on("message", (message: ToChild) => {
  if (message.type === "open") void open(message);
  else {
    budget = message.count;
    times.length = 0;
    go();
  }
});

async function open({ job, backbone, data, threads }: Extract<ToChild, { type: "open" }>) {
  const shelf = new Shelf();
  const settings = {
    backbone,
    cache: join(data, "compiled"),
    runtime: "onnx",
    threads,
    precision: job.request.precision ?? "auto",
    cacheBytes: 2 ** 28,
    batchTokens: 512,
    queue: 4096,
  } as const;
  const opened = await openCore(settings, shelf, () => {});
  const bench = { ...opened, shelf };
  send({ type: "ready" });
  await train(bench, job, {
    log: () => {},
    progress: () => {
      times.push(performance.now() - since);
      since = 0;
      if (--budget === 0) send({ type: "times", milliseconds: [...times] });
    },
    pause: async () => {
      if (budget <= 0)
        await new Promise<void>(resolve => {
          go = resolve;
        });
      // The first micro-batch of a step sets the clock.
      since ||= performance.now();
    },
    checkpoint: async () => {},
  });
}
