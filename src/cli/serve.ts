import closeWithGrace from "close-with-grace";
import { Command } from "commander";
import { start } from "../main.ts";
import { backboneOptions, registryOption, settingsOf } from "./settings.ts";

/** How long running requests may take to finish after SIGTERM. */
const GRACE_MS = 30_000;

export const serve = (): Command =>
  registryOption(backboneOptions(new Command("serve")))
    .description("start the server; the default backbone is pulled at the first start")
    .option("--host <host>", "address to listen on (FOREWORD_HOST)")
    .option("--port <port>", "port to listen on (FOREWORD_PORT)")
    .option("--cache-bytes <size>", "memory for KV prefixes, as 512MiB (FOREWORD_CACHE_BYTES)")
    .option("--admin-key <key>", "ask for this key with every call (FOREWORD_ADMIN_KEY)")
    .action(async flags => {
      const running = await start(settingsOf(flags));
      closeWithGrace({ delay: GRACE_MS }, () => running.close());
    });
