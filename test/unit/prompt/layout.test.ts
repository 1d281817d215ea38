import { describe, expect, it, test } from "vitest";
import { ForewordError, type ProblemCode } from "../../../src/errors.ts";
import type { ChatMessage, TextCodec } from "../../../src/prompt/codec.ts";
import type { FieldValues } from "../../../src/prompt/fields.ts";
import {
  layoutPrefix,
  layoutRow,
  layoutWritten,
  positions,
  type Segment,
  softLengths,
} from "../../../src/prompt/layout.ts";
import { compileTemplate } from "../../../src/prompt/template.ts";

/** A whole tokenizer over characters: code points are ids, and three markers are special when asked for. */
const markers = { "<|im_start|>": 2_000_000, "<|im_end|>": 2_000_001, "<s>": 2_000_002 };
/** One character it does not know. */
const plain = (text: string) => [...text.replaceAll("\u001d", "")].map(char => char.codePointAt(0)!);
const characters: TextCodec = {
  bosId: null,
  bosText: null,
  encode: plain,
  encodeWithSpecials: text =>
    text
      .split(/(<\|im_start\|>|<\|im_end\|>|<s>)/)
      .flatMap(part => (part in markers ? [markers[part as keyof typeof markers]] : plain(part))),
};
const chatty: TextCodec = {
  ...characters,
  bosId: markers["<s>"],
  bosText: "<s>",
  renderChat: (messages, { addGenerationPrompt }) =>
    `<s>${messages.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join("")}` +
    (addGenerationPrompt ? "<|im_start|>assistant\n" : ""),
};

const names = new Map<number, string>(Object.entries(markers).map(([text, id]) => [id, text]));
const show = (segments: Segment[]): unknown[] =>
  segments.map(segment => {
    if ("soft" in segment) return [segment.soft.from, segment.soft.length];
    const text = segment.ids.map(id => names.get(id) ?? String.fromCodePoint(id)).join("");
    return segment.field === undefined ? text : { [segment.field]: text };
  });
const ids = (segments: Segment[]) => segments.flatMap(segment => ("ids" in segment ? segment.ids : []));

const refusal = (source: string, input: unknown, codec = characters): [ProblemCode, string, unknown] => {
  try {
    layoutRow(compileTemplate(source), codec, input as FieldValues);
  } catch (error) {
    if (error instanceof ForewordError) return [error.code, error.message, error.fields];
    throw error;
  }
  throw new Error("was taken");
};

describe("layout", () => {
  it("splits at the first field and numbers the rows of soft slots", () => {
    const template = compileTemplate("A{{ soft(3) }}B{{ soft('xy') }} {{ input }} C{{ soft(2) }}D");
    expect(softLengths(template, characters)).toEqual([3, 2, 2]);
    expect(show(layoutPrefix(template, characters))).toEqual(["A", [0, 3], "B", [3, 2]]);
    const row = layoutRow(template, characters, "hi");
    expect(show(row)).toEqual([{ input: " hi" }, " C", [5, 2], "D"]);
    expect(positions(row)).toBe(3 + 2 + 2 + 1);
  });

  it("puts BOS first", () => {
    const template = compileTemplate("Text: {{ input }}");
    expect(show(layoutPrefix(template, chatty))).toEqual(["<s>", "Text:"]);
    expect(show(layoutPrefix(compileTemplate("{{ input }}"), chatty))).toEqual(["<s>"]);
    expect(layoutPrefix(compileTemplate("{{ input }}"), characters)).toEqual([]);
  });

  it("puts BOS where the template writes it, and adds none then", () => {
    const behind = compileTemplate("{{ soft(3) }}<s>Text: {{ input }}");
    expect(show(layoutPrefix(behind, chatty))).toEqual([[0, 3], "<s>Text:"]);
    expect(show(layoutPrefix(compileTemplate("<s>{{ input }}"), chatty))).toEqual(["<s>"]);
    // Written later, or where the tokenizer adds none, it is a marker as any other.
    expect(show(layoutPrefix(compileTemplate("A<s>{{ input }}"), chatty))).toEqual(["<s>", "A<s>"]);
    expect(show(layoutPrefix(behind, characters))).toEqual([[0, 3], "<s>Text:"]);
  });

  it("treats the first word behind a written BOS as the first of a text", () => {
    const first: TextCodec = {
      ...chatty,
      encodeWithSpecials: text => chatty.encodeWithSpecials(text.startsWith("<s>") ? text : `_${text}`),
    };
    expect(show(layoutPrefix(compileTemplate("<s>Text: {{ input }}"), first))).toEqual(["<s>_Text:"]);
  });

  it("leaves BOS out behind a trained prefix, unless the template writes it", () => {
    expect(show(layoutWritten(compileTemplate("Text: {{ input }}"), chatty))).toEqual(["Text:"]);
    expect(show(layoutWritten(compileTemplate("<s>{{ input }}"), chatty))).toEqual(["<s>"]);
  });

  it("makes chat markers special in the template, never in a field", () => {
    const template = compileTemplate("<|im_start|>user\n{{ input }}<|im_end|>\n");
    expect(layoutPrefix(template, characters)).toEqual([{ ids: [2_000_000, ...plain("user")] }]);
    expect(layoutRow(template, characters, "a<|im_end|>")).toEqual([
      { ids: plain("\na<|im_end|>"), field: "input" },
      { ids: [2_000_001, 10] },
    ]);
  });

  it("fills several fields, one of them twice", () => {
    const template = compileTemplate("{{ 问题 }}？{{ b }}，{{ 问题 }}");
    expect(show(layoutRow(template, characters, { b: "乙", 问题: "甲" }))).toEqual([
      { 问题: "甲" },
      "？",
      { b: "乙" },
      "，",
      { 问题: "甲" },
    ]);
  });

  it("takes other soft lengths from the prompt's parameters", () => {
    const template = compileTemplate("{{ soft('xy') }}{{ input }}{{ soft(1) }}");
    expect(layoutPrefix(template, characters, [5, 1])).toEqual([{ soft: { from: 0, length: 5 } }]);
    expect(layoutRow(template, characters, "a", [5, 1])[1]).toEqual({ soft: { from: 5, length: 1 } });
    expect(() => layoutPrefix(template, characters, [5])).toThrow(RangeError);
  });
});

const answer = "<|im_end|>\n<|im_start|>assistant\n";
test.each<[string, string[]]>([
  ["Review: {{ a }}\nSo:", ["^Review:", " x", "\nSo:"]],
  ["{{ a }} So:", ["^x", " So:"]],
  ["{{ soft(2) }}{{ a }} So:", ["^x", " So:"]],
  ["<s>Review: {{ a }}", ["<s>^Review:", " x"]],
  ["<s>{{ a }}", ["^x"]],
  ["{{ soft(3) }}<s>{{ a }}", ["^x"]],
  ["{{ messages }}", ["^<|im_start|>user", "\nx", answer]],
  ["<s>{{ messages }}", ["^<|im_start|>user", "\nx", answer]],
  ["Chat:{{ messages }}", ["^Chat:", "<|im_start|>user", "\nx", answer]],
])("a tokenizer that treats a first text apart is told which one it is: %s", (source, texts) => {
  const mark = (encode: TextCodec["encode"]): TextCodec["encode"] => {
    return (text, { first = false } = {}) =>
      encode(first && text !== "" ? text.replace(/^(<s>)?/, "$1^") : text);
  };
  const codec = {
    ...chatty,
    encode: mark(chatty.encode),
    encodeWithSpecials: mark(chatty.encodeWithSpecials),
  };
  const template = compileTemplate(source);
  const all = [...layoutPrefix(template, codec), ...layoutRow(template, codec, "x")];
  const written = show(all.filter(segment => "ids" in segment)).map(each =>
    typeof each === "string" ? each : Object.values(each as object)[0],
  );
  expect(written.filter(text => text !== "<s>")).toEqual(texts);
});

describe("chat", () => {
  const messages: ChatMessage[] = [
    { role: "system", content: "Be brief.<|im_end|>" },
    { role: "user", content: "\u{F0000}0\u{F0001} 你好 $&" },
  ];

  it("renders markers as special tokens and contents as plain text, BOS once", () => {
    const template = compileTemplate("{{ messages }}Label:");
    expect(show(layoutRow(template, chatty, { messages }))).toEqual([
      "<|im_start|>system",
      { messages: "\nBe brief.<|im_end|>" },
      "<|im_end|>\n<|im_start|>user",
      { messages: "\n\u{F0000}0\u{F0001} 你好 $&" },
      "<|im_end|>\n<|im_start|>assistant\n",
      "Label:",
    ]);
    const row = ids(layoutRow(template, chatty, { messages }));
    expect(row.filter(id => id === markers["<|im_end|>"])).toHaveLength(2);
    expect(row).not.toContain(markers["<s>"]);
  });

  it.each([
    ["keeps", (content: string) => content, [{ messages: "  hi\n" }, " [/INST]", "Label:"]],
    ["trims", (content: string) => content.trim(), [{ messages: " hi" }, " [/INST]", "Label:"]],
  ])(
    "a word has the space before it, and a content the white space that the chat template %s",
    (_, said, behind) => {
      const template = compileTemplate("{{ messages }}Label:");
      const spaced: TextCodec = {
        ...chatty,
        renderChat: messages => messages.map(({ content }) => `<s>[INST] ${said(content)} [/INST]`).join(""),
      };
      const turn = (content: string) => ({ messages: [{ role: "user", content }] });
      expect(show(layoutRow(template, spaced, turn(" hi\n")))).toEqual(["[INST]", ...behind]);
      expect(refusal("{{ messages }}", turn("\u001d"), spaced)[0]).toBe("empty_input");
    },
  );

  it.each([
    ["{{ messages }}", ["^x"]],
    ["Chat:{{ messages }}", ["x"]],
  ])("a content that a rendering begins with is a first text where %s is", (source, contents) => {
    const codec: TextCodec = {
      ...characters,
      encode: (text, { first = false } = {}) => plain(first ? `^${text}` : text),
      renderChat: turns => turns.map(({ content }) => `${content}<|im_end|>`).join(""),
    };
    const row = show(layoutRow(compileTemplate(source), codec, "x"));
    expect(row).toEqual([...contents.map(messages => ({ messages })), "<|im_end|>"]);
  });

  it("takes a text as one user turn", () => {
    const template = compileTemplate("{{ messages }}");
    expect(layoutRow(template, chatty, "hi")).toEqual(
      layoutRow(template, chatty, { messages: [{ role: "user", content: "hi" }] }),
    );
  });

  it("refuses a role that could spell a marker, and a backbone without a chat template", () => {
    const [code] = refusal(
      "{{ messages }}",
      { messages: [{ role: "user<|im_end|>", content: "x" }] },
      chatty,
    );
    expect(code).toBe("validation");
    expect(refusal("{{ messages }}", { messages })[1]).toMatch(/no chat template/);
  });
});

describe("fields", () => {
  it.each<[string, unknown, ProblemCode, RegExp, object]>([
    ["{{ a }}{{ b }}", "text", "fields_required", /"a", "b"/, { fields: ["a", "b"] }],
    ["{{ a }}{{ b }}", { a: "x" }, "fields_required", /lacks "b"/, { missing: ["b"], fields: ["a", "b"] }],
    ["{{ a }}", {}, "fields_required", /lacks "a"/, { missing: ["a"] }],
    ["{{ constructor }}", {}, "fields_required", /constructor/, {}],
    ["{{ a }}", { a: "x", c: "y" }, "unknown_field", /no field "c"/, { unknown: ["c"], fields: ["a"] }],
    ["{{ a }}", "", "empty_input", /"a" is empty/, { field: "a" }],
    ["{{ a }}{{ b }}", { a: "x", b: " \n\u3000" }, "empty_input", /"b" is empty/, { field: "b" }],
    ["{{ messages }}", { messages: [] }, "empty_input", /"messages"/, {}],
    ["{{ messages }}", { messages: [{ role: "user", content: " " }] }, "empty_input", /"messages"/, {}],
    ["{{ a }}", "\u001d", "empty_input", /"a" has no character/, { field: "a" }],
    ["{{ a }}:{{ b }}", { a: "x", b: "\u001d" }, "empty_input", /"b" has no character/, { field: "b" }],
    [
      "{{ messages }}",
      { messages: [{ role: "user", content: "\u001d" }] },
      "empty_input",
      /"messages" has no/,
      {},
    ],
    ["{{ messages }}", { messages: [null] }, "validation", /Message 0/, {}],
    ["{{ messages }}", { messages: [{ role: "user" }] }, "validation", /Message 0/, {}],
    ["{{ a }}", { a: [{ role: "user", content: "x" }] }, "validation", /"a" takes a text/, {}],
    ["{{ a }}", { a: 3 }, "validation", /"a" takes a text/, {}],
  ])("refuses %s with %j", (source, input, code, detail, fields) => {
    const [is, message, has] = refusal(source, input, chatty);
    expect(is).toBe(code);
    expect(message).toMatch(detail);
    expect(has).toMatchObject(fields);
  });
});
