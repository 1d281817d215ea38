import { expect, test } from "vitest";
import { openBackbone } from "../../src/backbone/source.ts";
import { Tokenizer } from "../../src/backbone/tokenizer.ts";
import { Grammars } from "../../src/engine/constraint.ts";
import { describeBackbone } from "../support/backbone.ts";

const good = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
const bad: [what: string, schema: object, says: RegExp][] = [
  ["a type that there is not", { type: "nonsense" }, /Unsupported type "nonsense"/],
  ["a reference to nowhere", { $ref: "#/nowhere" }, /nowhere/],
  ["a pattern that is none", { type: "string", pattern: "(" }, /parenthesis/],
];

describeBackbone("JSON schemas that cannot be compiled", path => {
  const open = async () => {
    const source = await openBackbone(path);
    const tokenizer = Tokenizer.from((await source.tokenizerFiles())!);
    const grammars = new Grammars(tokenizer, source.config.vocabSize);
    await source.close();
    return { grammars, tokenizer, size: source.config.vocabSize };
  };

  test("are refused in words, however often and however many at once, and spoil nothing", async () => {
    const { grammars, tokenizer, size } = await open();
    const before = await grammars.json(good);
    for (const [what, schema, says] of bad) {
      const refused = await Promise.allSettled([1, 2, 3].map(() => grammars.json(schema)));
      for (const result of refused) {
        expect(result, what).toMatchObject({ status: "rejected", reason: { code: "validation" } });
        expect((result as PromiseRejectedResult).reason.message, what).toMatch(says);
      }
    }
    const after = await grammars.json(good);
    const [brace] = tokenizer.encode("{");
    const [letter] = tokenizer.encode("z");
    for (const constraint of [before, after]) {
      const logits = new Float32Array(size);
      constraint.mask(logits);
      expect(logits[brace!]).toBe(0);
      expect(logits[letter!]).toBe(-Infinity);
      constraint.dispose();
    }
  });
});
