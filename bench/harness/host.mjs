/** The built product in a process of its own, watched from inside: ready when, event-loop delay. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { loadConfig } from "../../dist/config.js";
import { start } from "../../dist/main.js";

const delay = monitorEventLoopDelay({ resolution: 1 });
const running = await start(loadConfig());
running.ready.then(
  () => process.send({ type: "ready", address: running.address }),
  error => process.send({ type: "failed", message: error.message }),
);

process.on("message", message => {
  if (message === "watch") {
    delay.enable();
    delay.reset();
  } else if (message === "delay") {
    process.send({ type: "delay", p99_ms: delay.percentile(99) / 1e6 });
  } else {
    process.disconnect();
  }
});
// Also where the bench is killed.
process.on("disconnect", () => running.close());
