import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { ensurePython, peersFolder } from "../peers/python.ts";

export interface Bleu {
  /** 0 to 100. */
  score: number;
  signature: string;
}

/** Corpus BLEU by sacrebleu itself; any number of references a text, each text's own number. */
export function sacrebleu(texts: readonly string[], references: readonly (readonly string[])[]): Bleu {
  const reply = execFileSync(ensurePython("requirements-bleu.txt"), [join(peersFolder, "bleu.py")], {
    input: JSON.stringify({ texts, references }),
    encoding: "utf8",
  });
  return JSON.parse(reply) as Bleu;
}
