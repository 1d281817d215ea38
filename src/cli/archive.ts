/** A whole registry as one file, and back: LMDB of a stopped server, or Redis. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import type { Config } from "../config.ts";
import { ForewordError } from "../errors.ts";
import type { Manifest } from "../registry/archive.ts";
import type { Registry } from "../registry/registry.ts";
import { print } from "./request.ts";
import { registryOption, settingsOf } from "./settings.ts";

const log = { error: (_: object, text: string) => void process.stderr.write(`${text}\n`) };

const options = (command: Command): Command =>
  registryOption(command)
    .option("--config <file>", "a JSON file of settings (FOREWORD_CONFIG)")
    .option("--data <folder>", "the data folder with the registry/, unless it is in Redis (FOREWORD_DATA)")
    .option("--json", "print what the archive holds as JSON");

export const exportRegistry = (): Command =>
  options(new Command("export"))
    .description("write a whole registry into one file: of a stopped server, a backup, or Redis")
    .argument("<file>", "the archive to write; there must be no such file yet")
    .option("--folder <folder>", "a backup to export, in place of the data folder's registry/")
    .action(async (file: string, { folder, json, ...flags }) => {
      const { writeArchive } = await import("../registry/archive-write.ts");
      const config = await settingsOf(flags);
      const manifest = await using(sourceOf(config, folder), registry => writeArchive(registry, file));
      print(json, manifest, () => `${file}: ${told(manifest)}${leftOut(manifest)}\n`);
    });

export const importRegistry = (): Command =>
  options(new Command("import"))
    .description("read an archive of foreword export into an empty registry: of a stopped server, or Redis")
    .argument("<file>", "the archive; it is checked whole before anything is changed")
    .option("--replace", "replace all that the registry holds; servers on that Redis go on, and reload")
    .action(async (file: string, { replace, json, ...flags }) => {
      const { Archive } = await import("../registry/archive-read.ts");
      const archive = await Archive.open(file);
      try {
        const opening = opened(await settingsOf(flags));
        await using(opening, registry => archive.restore(registry, { replace }));
        print(json, archive.manifest, () => `${told(archive.manifest)} are there now\n`);
      } finally {
        archive.close();
      }
    });

async function opened(config: Config): Promise<Registry> {
  const { openRegistry } = await import("../registry/open.ts");
  return openRegistry(config, log);
}

/** Throws `not_found` where there is no registry, which opening would make. */
async function sourceOf(config: Config, folder: string | undefined): Promise<Registry> {
  if (folder === undefined && config.registry !== "lmdb") return opened(config);
  const place = folder ?? join(config.data, "registry");
  if (!existsSync(join(place, "registry.lmdb")))
    throw new ForewordError(
      "not_found",
      `There is no registry in ${place}. Name the server's data folder with --data, a backup with --folder, or a Redis with --registry.`,
    );
  const { openLmdbRegistry } = await import("../registry/lmdb.ts");
  return openLmdbRegistry(place);
}

async function using<Result>(
  opening: Promise<Registry>,
  work: (registry: Registry) => Promise<Result>,
): Promise<Result> {
  const registry = await opening.catch(error => {
    if (!(error instanceof ForewordError) || error.fields.holder === undefined) throw error;
    throw new ForewordError(
      error.code,
      `A server has this registry open (${error.fields.holder}). Stop it first; or, to export while it runs, make a copy with foreword backup and name that with --folder.`,
    );
  });
  try {
    return await work(registry);
  } finally {
    await registry.close();
  }
}

const told = ({ tasks, prompts, datasets, jobs, blobs }: Manifest): string =>
  `${tasks} tasks, ${prompts} prompts, ${datasets} data sets, ${jobs} ended jobs and ${blobs} files of them`;

const leftOut = ({ left_out: { open_jobs } }: Manifest): string =>
  open_jobs === 0 ? "" : `; left out: ${open_jobs} jobs that have not ended`;
