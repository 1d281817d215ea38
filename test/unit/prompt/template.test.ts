import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ForewordError } from "../../../src/errors.ts";
import { pieces, promptKind } from "../../../src/prompt/pieces.ts";
import { compileTemplate } from "../../../src/prompt/template.ts";

const problem = (source: string): ForewordError => {
  try {
    compileTemplate(source);
  } catch (error) {
    if (error instanceof ForewordError) return error;
    throw error;
  }
  throw new Error(`was taken: ${source}`);
};

describe("compileTemplate", () => {
  it("moves white space before a field to the field", () => {
    expect(compileTemplate("Review: {{ input }}\nSentiment:").pieces).toEqual([
      { kind: "literal", text: "Review:" },
      { kind: "field", name: "input", lead: " " },
      { kind: "literal", text: "\nSentiment:" },
    ]);
  });

  it.each([
    ["Text:\n\t {{input}}", "Text:", "\n\t "],
    ["文本：　{{ input }}", "文本：", "\u3000"],
    [" {{ input }}", null, " "],
    ["<|im_start|>user\n{{ input }}", "<|im_start|>user", "\n"],
  ])("moves all of it: %j", (source, text, lead) => {
    const compiled = compileTemplate(source);
    expect(compiled.pieces).toEqual([
      ...(text === null ? [] : [{ kind: "literal", text }]),
      { kind: "field", name: "input", lead },
    ]);
  });

  it("keeps white space before a slot and at the end", () => {
    expect(compileTemplate("{{ a }} \n{{ soft(3) }} ").pieces).toEqual([
      { kind: "field", name: "a", lead: "" },
      { kind: "literal", text: " \n" },
      { kind: "soft", length: 3, start: null },
      { kind: "literal", text: " " },
    ]);
  });

  it("lists fields once, in order", () => {
    const { fields, pieces: list } = compileTemplate("{{ b }}{{ a }} and {{ b }}");
    expect(fields).toEqual(["b", "a"]);
    expect(list.filter(piece => piece.kind === "field")).toHaveLength(3);
  });

  it.each(["输入", "вопрос", "κείμενο", "प्रश्न", "سؤال", "question-2", "_x", "質問_1", "soft_text"])(
    "takes the field name %s",
    name => {
      expect(compileTemplate(`前文 {{ ${name} }} 🙂`).fields).toEqual([name]);
    },
  );

  it.each([
    ['{{ soft("Classify:") }}', "Classify:"],
    ["{{soft('it\\'s')}}", "it's"],
    ['{{ soft("a \\"b\\" }} c\\n\\u4e2d\\\\") }}', 'a "b" }} c\n中\\'],
    ["{{ soft( '情感分析：' ) }}", "情感分析："],
    ['{{ soft("two\nlines") }}', "two\nlines"],
  ])("reads the start text of %s", (slot, start) => {
    expect(compileTemplate(`${slot}{{ input }}`).pieces[0]).toEqual({ kind: "soft", length: null, start });
  });

  it("takes single braces as text", () => {
    const source = '{"text": "{{ input }}", "more": {"a": {}}}';
    expect(compileTemplate(source).pieces).toEqual([
      { kind: "literal", text: '{"text": "' },
      { kind: "field", name: "input", lead: "" },
      { kind: "literal", text: '", "more": {"a": {}}}' },
    ]);
  });

  it.each([
    ["plain text", /no field/],
    ["", /no field/],
    ["{{ soft(3) }} only", /no field/],
    ["{{ input", /line 1, column 1.*never close/],
    ["ab\n文字{{ a b }}", /line 2, column 3.*\{\{ a b \}\}/],
    ["🙂{{ }}", /line 1, column 2/],
    ["{{ soft }}{{ input }}", /without its length/],
    ["{{ soft() }}{{ input }}", /neither a field nor a soft slot/],
    ["{{ soft(0) }}{{ input }}", /0 virtual tokens, where 1 to 4096/],
    ["{{ soft(4097) }}{{ input }}", /1 to 4096/],
    ["{{ soft('') }}{{ input }}", /empty start text/],
    ["{{ soft('\\x') }}{{ input }}", /escape \\x/],
    ["{{ soft('\\ud83d') }}{{ input }}", /surrogate/],
    ["{{ soft('unclosed) }}{{ input }}", /neither/],
    ["{{ 1st }}", /neither/],
    ["{% if x %}{{ x | upper }}", /line 1, column 11/],
    ["{{{ input }}}", /neither/],
    ["\ud83d {{ input }}", /surrogate pair at index 0/],
    [`${"é".repeat(1 << 19)}{{ input }}`, /1048587 bytes; at most 1048576/],
  ])("refuses %j", (source, detail) => {
    const error = problem(source);
    expect(error.code).toBe("bad_template");
    expect(error.message).toMatch(detail);
  });

  it("takes 4096 virtual tokens, and a start text of nearly a mebibyte", () => {
    expect(compileTemplate("{{ soft(4096) }}{{ input }}").pieces[0]).toMatchObject({ length: 4096 });
    const start = "ab\\n".repeat(200_000);
    expect(compileTemplate(`{{ soft("${start}") }}{{ input }}`).pieces[0]).toMatchObject({
      start: "ab\n".repeat(200_000),
    });
  });

  it("keeps every character of any text, and refuses with bad_template alone", () => {
    /** Blanks between braces mean nothing. */
    const tidy = (text: string) => text.replace(/\{\{[^{}]*\}\}/g, field => field.replace(/\s/g, ""));
    const part = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("{{ input }}", "{{", "}}", "{", " ", "\n", "{{ soft(2) }}", "{{ soft('x') }}", "中"),
    );
    fc.assert(
      fc.property(fc.array(part), parts => {
        const source = parts.join("");
        try {
          const written = compileTemplate(source).pieces.map(piece => {
            if (piece.kind === "literal") return piece.text;
            return piece.kind === "field"
              ? `${piece.lead}{{ ${piece.name} }}`
              : `{{ soft(${piece.length ?? `'${piece.start}'`}) }}`;
          });
          expect(tidy(written.join(""))).toBe(tidy(source));
        } catch (error) {
          if (!(error instanceof ForewordError)) throw error;
          expect(error.code).toBe("bad_template");
        }
      }),
      { numRuns: 1000, examples: [[["{{", "中", "}}"]]] },
    );
  });
});

describe("pieces", () => {
  it("shows what is frozen and what was trained, words as they were written", () => {
    const template = compileTemplate('{{ soft(4) }}Review: {{ input }} {{ soft("good or bad") }}\nMood:');
    expect(pieces(template, { softLengths: [4, 3], prefix: 12 })).toEqual([
      { prefix: 12, trained: true },
      { soft: 4, trained: true },
      { text: "Review: ", frozen: true },
      { field: "input", frozen: true },
      { text: " ", frozen: true },
      { soft: 3, trained: true },
      { text: "\nMood:", frozen: true },
    ]);
    expect(pieces(compileTemplate("{{ a }} {{ b }}"))).toEqual([
      { field: "a", frozen: true },
      { text: " ", frozen: true },
      { field: "b", frozen: true },
    ]);
  });

  it("tells the kind", () => {
    expect(promptKind({})).toBe("hard");
    expect(promptKind({ softLengths: [2] })).toBe("soft");
    expect(promptKind({ prefix: 3 })).toBe("prefix");
    expect(promptKind({ softLengths: [2], prefix: 3 })).toBe("mixed");
  });
});
