/** Texts from outside: UTF-8, with or without a byte order mark. Both throw a plain Error whose message is the reason. */
import { readFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";

export const readText = async (path: string): Promise<string> => utf8(await readFile(path));

export const standardInput = async (): Promise<string> => utf8(await buffer(process.stdin));

function utf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("it is no UTF-8: save it as UTF-8");
  }
}
