/** sacrebleu itself, called as the learning bench calls it; left out where the peers' environment is not there. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { sacrebleu } from "../../../bench/learning/bleu.ts";
import { peersFolder } from "../../../bench/peers/python.ts";
import { bleu } from "../../../bench/prompts/measure.ts";

const there = existsSync(join(peersFolder, ".venv/bin/sacrebleu"));

test.skipIf(!there)("any number of references a text, as two implementations count", () => {
  const texts = ["The cat sat on the mat.", "It's a family-friendly pub, near 3.5 stars (cheap)!"];
  const references = [
    ["The cat is on the mat.", "There is a cat on the mat."],
    ["It is a family-friendly pub near 3.5 stars - cheap!"],
  ];
  const { score, signature } = sacrebleu(texts, references);
  expect(score).toBeCloseTo(29.040909944574032, 8);
  expect(score).toBeCloseTo(bleu(texts, references), 8);
  expect(signature).toContain("tok:13a");
});
