import { Presets, SingleBar } from "cli-progress";
import { Command } from "commander";
import { backboneOptions, settingsOf } from "./settings.ts";

const MB = 1e6;

export const pull = (): Command =>
  backboneOptions(new Command("pull"))
    .description("fetch a backbone, with a progress bar; a download that broke goes on where it stopped")
    .argument(
      "[name]",
      "a catalogue name, or owner/name of the Hugging Face hub (default: the configured backbone)",
    )
    .option("--json", "print one JSON document at the end, and no bar")
    .action(async (name: string | undefined, { json, ...flags }) => {
      const config = await settingsOf(flags);
      // The terminal's cursor and wrapping stay on: Ctrl-C, which nothing catches here, would leave them off.
      const bar = new SingleBar(
        {
          format: "{phase} {bar} {percentage}% | {megabytes} of {size} MB | {source}",
          linewrap: true,
          noTTYOutput: false,
        },
        Presets.shades_classic,
      );
      let shown = false;
      const backbone = name ?? config.backbone;
      const { pull: fetched } = await import("../backbone/pull.ts");
      const path = await fetched(backbone, {
        data: config.data,
        ...(config.mirror !== undefined && { mirror: config.mirror }),
        onProgress: ({ source, phase, received, total }) => {
          if (json) return;
          const payload = {
            source,
            phase,
            megabytes: (received / MB).toFixed(1),
            size: total === null ? "?" : (total / MB).toFixed(1),
          };
          if (!shown) bar.start(total ?? 1, 0, payload);
          shown = true;
          if (total !== null) bar.setTotal(total);
          bar.update(total === null ? 0 : received, payload);
        },
      }).finally(() => bar.stop());
      process.stdout.write(json ? `${JSON.stringify({ backbone, path })}\n` : `${backbone} is at ${path}\n`);
    });
