/** What people read on a terminal: losses as they are, and no text of others that would move its cursor. */
import { afterEach, expect, test, vi } from "vitest";
import { failure } from "../../../src/cli/failure.ts";
import { progressLine } from "../../../src/cli/progress.ts";
import { drawEnsemble, drawReport, drawSearch } from "../../../src/cli/report.ts";
import { table } from "../../../src/cli/request.ts";
import { plain } from "../../../src/cli/text.ts";
import { drawDonors } from "../../../src/cli/transfer-report.ts";
import type { EvaluationReport } from "../../../src/contract/evaluate.ts";
import { ForewordError } from "../../../src/errors.ts";

const hostile = "\u001b[31mred\u009b2J\u0007\r\nnext";

afterEach(() => vi.restoreAllMocks());

test("inputs, texts and labels bring no escape sequences", () => {
  const report = {
    examples: 1,
    prompts: [
      {
        name: "1",
        bleu: 0,
        rouge_l: { value: 0, low: 0, high: 0 },
        exact_match: { value: 0, low: 0, high: 0 },
        perplexity: 2,
      },
    ],
    comparisons: [],
    differing: 1,
    differences: [{ line: 1, input: hostile, wanted: [hostile], given: { 1: hostile } }],
  } as unknown as EvaluationReport;
  const drawn = drawReport(report);
  expect(drawn).toContain("line 1: [31mred2J next\n    wanted: [31mred2J next\n    1: [31mred2J next\n");
  expect(table(["label"], [[hostile]])).toBe("label\n[31mred2J next\n");
  expect(plain(`${hostile}\tend\n`)).toBe("[31mred2J\nnext\tend\n");
});

test("what ensembles and thresholds have is shown where there is any, and what was left out", () => {
  const estimate = { value: 0.5, low: 0.25, high: 0.75 };
  const one = {
    name: "1",
    accuracy: estimate,
    macro_f1: 0.5,
    log_loss: 0.5,
    expected_calibration_error: 0.1,
    labels: [],
    confusion: [],
  };
  const weighted = { name: "1+2 by weighted", agreement: 0.75, weights: [0.25, 0.75] };
  const doubting = { name: "active", unsure: { unsure_below: 0.6, share: 0.125, accuracy: 0.9 } };
  const report = (...prompts: object[]) =>
    drawReport({
      examples: 8,
      prompts: prompts.map(each => ({ ...one, ...each })),
      comparisons: [],
      differing: 0,
      differences: [],
      left_out: [{ name: "3", prompt: 3, reason: hostile }],
    } as unknown as EvaluationReport);
  const drawn = report({}, weighted, doubting);
  expect(drawn).toMatch(/calibration error +agreement +weights +unsure$/m);
  expect(drawn).toMatch(/^1 .* 0\.1000$/m);
  expect(drawn).toMatch(/^1\+2 by weighted .* 0\.7500 +0\.250, 0\.750$/m);
  expect(drawn).toMatch(/^active .* 12\.5 %, accuracy of the others 0\.900$/m);
  expect(drawn).toMatch(/\n3 is left out: \[31mred2J next\n$/);
  expect(report({})).toMatch(/calibration error$/m);
});

test("a search whose best prompt was not kept names no version, and no command for it", () => {
  const best = {
    rank: 1,
    name: "plain",
    source: "pattern",
    template: "{{ input }}",
    length: 3,
    race: { score: 0.5, examples: 32 },
    validation: null,
    version: null,
  };
  const validation = { new: 0.5, active: 0.25, p_value: 0.5 };
  const drawn = drawSearch("t", {
    table: [best],
    metric: "accuracy",
    active: null,
    versions: [],
    validation,
  });
  expect(drawn).toContain("\nnot kept: plain; what was active 0.2500");
  expect(drawn).toMatch(/what was active still answers\n$/);
});

test("a loss is shown as what it is, in a search's table and of an ensemble", () => {
  const ranked = {
    rank: 1,
    name: "plain\u001b[1m",
    source: "pattern",
    template: "{{ input }}",
    length: 3,
    race: { score: -7.8196, examples: 32 },
    validation: { value: -7.5, low: -7.75, high: -7.25 },
  };
  const searched = drawSearch("few", {
    table: [ranked],
    metric: "loss",
    active: { prompt: 2 },
    versions: [2],
    validation: { new: -7.5, active: -8.25, p_value: 0.5 },
  });
  expect(searched).toMatch(/ 7\.8196 +32 +7\.5000 \(7\.2500 to 7\.7500\)$/m);
  expect(searched).toContain("version 2: plain[1m; what was active 8.2500 (p 0.50)");
  expect(searched).not.toMatch(/-\d/);
  const ensemble = { members: [-1.5], votes: { mean: -1.25 }, agreement: 1, active: {} };
  const drawn = drawEnsemble("few", {
    versions: [1],
    ensemble,
    validation: { new: -1, active: -2, p_value: 1 },
  });
  expect(drawn).toMatch(/version 1 +1\.5000\ntogether, by mean +1\.2500\n.*what was active 2\.0000/);
});

test("the live line shows a loss as what it is", () => {
  let written = "";
  vi.spyOn(process.stderr, "write").mockImplementation(chunk => {
    written += chunk;
    return true;
  });
  const { isTTY, columns } = process.stderr;
  Object.assign(process.stderr, { isTTY: true, columns: 200 });
  try {
    const line = progressLine();
    line.update({
      step: 1,
      steps: 4,
      loss: 8.5,
      examples_per_second: 1,
      eta_seconds: 3,
      validation: -7.8196,
    });
    line.log(hostile);
    line.stop();
  } finally {
    Object.assign(process.stderr, { isTTY, columns });
  }
  expect(written).toContain("loss 8.500 | validation 7.820 |");
  expect(written).toContain("[31mred2J\nnext");
  expect(written).not.toContain("\u001b[31m");
});

test("a failure: the message with each line's error behind it, the document for programs", () => {
  const errors = Array.from({ length: 30 }, (_, at) => ({ line: at + 2, detail: `No label ${at}.` }));
  const error = new ForewordError("bad_dataset", "Line 2: no label (and 39 more lines: see errors).", {
    errors,
    count: 40,
  });
  const lines = failure(error, false).trimEnd().split("\n");
  expect(lines.slice(0, 3)).toEqual([error.message, "  line 2: No label 0.", "  line 3: No label 1."]);
  expect(lines.slice(-2)).toEqual(["  line 21: No label 19.", "  and 20 more lines"]);
  expect(JSON.parse(failure(error, true))).toEqual(error.toProblem());
  const one = new ForewordError("bad_dataset", "Line 2: no label.", { errors: errors.slice(0, 1), count: 1 });
  expect(failure(one, false)).toBe("Line 2: no label.\n");
  expect(failure(new TypeError("ours"), true)).toMatch(/TypeError: ours\n +at /);
});

test.each([
  [{ method: "prefix" }, ""],
  [{ method: "soft" }, " --method soft"],
  [{ method: "soft", template: "It's {{ input }}" }, ` --method soft --template 'It'\\''s {{ input }}'`],
])("donors of %j: the advised command trains what they were ranked for", (asked, more) => {
  const init = { prompt: { task: "spam", version: 3 } };
  const report = { ...asked, best: { init }, table: [], left_out: [] };
  expect(drawDonors("reviews", report)).toContain(
    `: foreword train reviews <data> --init prompt:spam/3${more}\n`,
  );
});
