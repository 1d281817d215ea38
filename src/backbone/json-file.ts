import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { badBackbone } from "./settings.ts";

export type Json = Readonly<Record<string, unknown>>;

/** A JSON object from a model's directory; null where there is no such file. */
export async function readJson(directory: string, file: string): Promise<Json | null> {
  const text = await readText(directory, file);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    badBackbone(`${join(directory, file)} is not JSON; fetch it again.`, cause);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
  return badBackbone(`${join(directory, file)} is not a JSON object.`);
}

export async function readText(directory: string, file: string): Promise<string | null> {
  try {
    return await readFile(join(directory, file), "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    return badBackbone(`${join(directory, file)} cannot be read.`, cause);
  }
}
