import closeWithGrace from "close-with-grace";
import { Command } from "commander";
import { backboneOptions, registryOption, settingsOf, trainThreadsOption } from "./settings.ts";

/** How long it may take to hand back what runs after SIGTERM. */
const GRACE_MS = 30_000;

export const worker = (): Command =>
  trainThreadsOption(registryOption(backboneOptions(new Command("worker"))))
    .description("run the jobs of all servers on one Redis; start as many as you like, on any machine")
    .action(async flags => {
      const { startWorker } = await import("../main.ts");
      const running = await startWorker(await settingsOf(flags));
      const { uninstall } = closeWithGrace({ delay: GRACE_MS }, () => running.close());
      try {
        await running.ready;
      } catch (error) {
        // A worker that can't have a backbone is no worker: it ends, and says why.
        uninstall();
        await running.close();
        throw error;
      }
    });
