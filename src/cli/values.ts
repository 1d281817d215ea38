/** Values of flags that are no plain text. */
import { InvalidArgumentError } from "commander";
import type { Init } from "../contract/train.ts";

export function numberOf(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("It takes a number.");
  return value;
}

const starts = ["examples", "labels", "vocabulary", "random"] as const;

/** `labels`, `text:Is it good?`, `prompt:sentiment/3`. */
export function initOf(text: string): Init {
  const named = starts.find(name => name === text);
  if (named) return named;
  if (text.startsWith("text:")) return { text: text.slice("text:".length) };
  const [, task, version] = /^prompt:(.+)\/(\d+)$/.exec(text) ?? [];
  if (task !== undefined) return { prompt: { task, version: Number(version) } };
  throw new InvalidArgumentError(`It takes ${starts.join(", ")}, text:<words> or prompt:<task>/<version>.`);
}
