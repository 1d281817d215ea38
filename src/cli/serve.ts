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
    .option("--cache-bytes <size>", "memory for KV prefixes, as 512MiB (FOREWORD_CACHE_BYTES)")
    .option("--batch-tokens <count>", "tokens of a step (FOREWORD_BATCH_TOKENS)")
    .option("--queue <count>", "requests that may wait (FOREWORD_QUEUE)")
    .option("--body-limit <size>", "of a request, as 16MiB (FOREWORD_BODY_LIMIT)")
    .option("--timeout-ms <count>", "of requests that name none (FOREWORD_TIMEOUT_MS)")
    .option("--jobs <queue>", "embedded, or bullmq with a Redis (FOREWORD_JOBS)")
    .option("--admin-key <key>", "ask for this key with every call (FOREWORD_ADMIN_KEY)")
    .action(async flags => {
      const { start } = await import("../main.ts");
      const running = await start(await settingsOf(flags));
      closeWithGrace({ delay: GRACE_MS }, () => running.close());
    });
