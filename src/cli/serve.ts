import closeWithGrace from "close-with-grace";
import { Command } from "commander";
import { backboneOptions, registryOption, settingsOf, trainThreadsOption } from "./settings.ts";

/** How long running requests may take to finish after SIGTERM. */
const GRACE_MS = 30_000;

export const serve = (): Command =>
  trainThreadsOption(registryOption(backboneOptions(new Command("serve"))))
    .description("start the server; the default backbone is pulled at the first start")
    .option("--host <host>", "address to listen on (FOREWORD_HOST)")
    .option("--port <port>", "port to listen on (FOREWORD_PORT)")
    .option("--cache-bytes <size>", "memory for cached prompts, such as 512MiB (FOREWORD_CACHE_BYTES)")
    .option("--batch-tokens <count>", "most tokens of one step of the model (FOREWORD_BATCH_TOKENS)")
    .option("--queue <count>", "most requests that may wait (FOREWORD_QUEUE)")
    .option("--body-limit <size>", "largest request body, such as 16MiB (FOREWORD_BODY_LIMIT)")
    .option("--timeout-ms <count>", "time for a request that names none, in ms (FOREWORD_TIMEOUT_MS)")
    .option(
      "--jobs <queue>",
      "where jobs run: embedded (in the server), or bullmq (workers, with a Redis) (FOREWORD_JOBS)",
    )
    .option("--admin-key <key>", "a key that every call must bring (FOREWORD_ADMIN_KEY)")
    .action(async flags => {
      const { start } = await import("../main.ts");
      const running = await start(await settingsOf(flags));
      closeWithGrace({ delay: GRACE_MS }, () => running.close());
    });
