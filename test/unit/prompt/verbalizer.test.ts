import { describe, expect, it } from "vitest";
import { compileTemplate } from "../../../src/prompt/template.ts";
import { verbalize, withoutBlank } from "../../../src/prompt/verbalizer.ts";

const texts = (labels: string[], template: string) =>
  verbalize(labels, compileTemplate(template)).flatMap(({ verbalizers }) => verbalizers);

describe("verbalize", () => {
  it("writes names with a leading space, _ and - as spaces", () => {
    expect(verbalize(["spam", "not_spam", "far-off_thing"], compileTemplate("{{ input }}\nLabel:"))).toEqual([
      { label: "spam", verbalizers: [" spam"] },
      { label: "not_spam", verbalizers: [" not spam"] },
      { label: "far-off_thing", verbalizers: [" far off thing"] },
    ]);
  });

  it("keeps a sign in front of a name or behind it", () => {
    expect(texts(["-1", "0", "1", "A-", "A", "-", "v_"], "{{ input }}")).toEqual([
      " -1",
      " 0",
      " 1",
      " A-",
      " A",
      " -",
      " v ",
    ]);
  });

  it.each([
    "{{ input }}\n",
    "{{ input }}<|im_end|>\n<|im_start|>assistant\n",
    "{{ input }}<|assistant|>",
    "{{ input }}</s>",
    "{{ input }}<start_of_turn>",
    "[INST]{{ input }}[/INST]",
    "{{ messages }}",
  ])("writes no space at the end of %j", template => {
    expect(texts(["yes"], template)).toEqual(["yes"]);
  });

  it.each([
    "{{ input }}",
    "{{ input }} ->",
    "{{ input }} =>",
    "{{ input }} >",
    "{{ input }} <=>",
    "a < b {{ input }} c>",
    "{{ input }}\nLabel: ",
    "{{ input }}\n{{ soft(2) }}",
    "标签：{{ input }} 是",
  ])("writes a space at the end of %j", template => {
    expect(texts(["yes"], template)).toEqual([" yes"]);
  });

  it("keeps spelled out texts exactly", () => {
    const labels = { spam: " junk_mail", ham: ["ham", " not-spam", "好"] };
    expect(verbalize(labels, compileTemplate("{{ input }}\n"))).toEqual([
      { label: "spam", verbalizers: [" junk_mail"] },
      { label: "ham", verbalizers: ["ham", " not-spam", "好"] },
    ]);
  });
});

describe("withoutBlank", () => {
  it("cuts blanks at the end alone, and where labels are names alone", () => {
    expect(withoutBlank("a \t{{ input }} \n: \t ", ["x"])).toBe("a \t{{ input }} \n:");
    expect(withoutBlank("{{ input }}: ", { x: " y" })).toBe("{{ input }}: ");
    expect(withoutBlank("{{ input }}: ", null)).toBe("{{ input }}: ");
  });

  it("takes no longer for a million blanks that do not end it", () => {
    const template = `{{ input }}${" ".repeat(1_000_000)}:`;
    const started = performance.now();
    expect(withoutBlank(`${template} `, ["x"])).toBe(template);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});
