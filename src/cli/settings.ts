/** Flags that several commands share, as settings (contract, section 5). */
import type { Command } from "commander";
import type { Config } from "../config.ts";

/** Where the backbone comes from and what runs it. */
export const backboneOptions = (command: Command): Command =>
  command
    .option("--config <file>", "a JSON file of settings (FOREWORD_CONFIG)")
    .option("--data <folder>", "folder for the registry, backbones and compiled weights (FOREWORD_DATA)")
    .option(
      "--backbone <name>",
      "a catalogue name, owner/name of the hub, a GGUF file or a directory (FOREWORD_BACKBONE)",
    )
    .option("--mirror <folder>", "a folder that may hold the catalogue's files already (FOREWORD_MIRROR)")
    .option("--runtime <runtime>", "onnx or tfjs (FOREWORD_RUNTIME)")
    .option("--threads <count>", "threads of the runtime (FOREWORD_THREADS)")
    .option("--precision <precision>", "auto, fp32 or int8 (FOREWORD_PRECISION)")
    .option("--log-level <level>", "fatal, error, warn, info, debug, trace or silent (FOREWORD_LOG_LEVEL)");

export const registryOption = (command: Command): Command =>
  command.option(
    "--registry <where>",
    "lmdb (in the data folder), or a Redis such as redis://host:6379 (FOREWORD_REGISTRY)",
  );

export const trainThreadsOption = (command: Command): Command =>
  command.option("--train-threads <count>", "threads for training (FOREWORD_TRAIN_THREADS)");

export async function settingsOf(flags: Record<string, unknown>): Promise<Config> {
  const { loadConfig } = await import("../config.ts");
  return loadConfig({ flags });
}
