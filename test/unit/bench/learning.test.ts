import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { slotF1, slotsOf } from "../../../bench/contexts/slots.ts";
import type { Check } from "../../../bench/harness/report.ts";
import { allCells, type Cell, matches, nameOf } from "../../../bench/learning/cells.ts";
import { testCases } from "../../../bench/learning/data.ts";
import { scoreOf } from "../../../bench/learning/score.ts";
import { codeVersion, type RunRecord, RunStore } from "../../../bench/learning/store.ts";
import { checksOf, tabulate } from "../../../bench/learning/table.ts";

const record = (cell: Cell, score: number): RunRecord => ({
  ...cell,
  code: "abc",
  date: "2026-01-01T00:00:00.000Z",
  metric: "accuracy",
  score,
  test: { examples: 10, left_out: 0 },
  training_seconds: 120,
  settings: {},
});

describe("cells", () => {
  const cells = allCells({ data: ["sst2", "trec"], seeds: [1, 2], peers: false });

  it("are every method, data set and seed; what is not trained has one", () => {
    const own = ["search", "shots", "distill", "prefix", "soft", "ensemble"];
    const of = (data: string) => [
      `plain/${data}/1`,
      `hard/${data}/1`,
      ...[1, 2].flatMap(seed => own.map(method => `${method}/${data}/${seed}`)),
    ];
    expect(cells.map(nameOf)).toEqual([...of("sst2"), ...of("trec")]);
    expect(allCells({ data: ["trec"], seeds: [1], peers: true }).map(({ method }) => method)).toEqual([
      ...["plain", "hard", ...own],
      ...["peft-prompt", "peft-prefix", "peft-lora"],
    ]);
  });

  it.each<[string[], string[]]>([
    [["prefix/trec/1"], ["prefix/trec/1"]],
    [["prefix/trec"], ["prefix/trec/1", "prefix/trec/2"]],
    [["hard"], ["hard/sst2/1", "hard/trec/1"]],
    [
      ["*/sst2/2"],
      ["search", "shots", "distill", "prefix", "soft", "ensemble"].map(method => `${method}/sst2/2`),
    ],
    [
      ["prefix,soft/trec/2", "hard/sst2"],
      ["hard/sst2/1", "prefix/trec/2", "soft/trec/2"],
    ],
    [["pre"], []],
    [[], cells.map(nameOf)],
  ])("are picked by %j", (filters, names) => {
    expect(cells.filter(cell => matches(cell, filters)).map(nameOf)).toEqual(names);
  });
});

describe("the store", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "foreword-learning-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const cell = { method: "prefix", data: "trec", seed: 1 } as const;

  it("finds a run of the same code alone, and leaves nothing half written", () => {
    const store = new RunStore(folder);
    expect(store.find(cell, "abc")).toBeNull();
    store.keep(record(cell, 0.9));
    expect(new RunStore(folder).find(cell, "abc")).toEqual(record(cell, 0.9));
    for (const other of [
      { ...cell, seed: 2 },
      { ...cell, data: "sst2" },
      { ...cell, method: "soft" as const },
    ])
      expect(store.find(other, "abc")).toBeNull();
    expect(store.find(cell, "abd")).toBeNull();
    expect(readdirSync(folder)).toEqual(["prefix.trec.1.abc.json"]);
  });

  it("knows the newest run by whatever code", () => {
    const store = new RunStore(folder);
    expect(store.latest(cell)).toBeNull();
    const newer = { ...record(cell, 0.8), code: "def", date: "2999-01-01T00:00:00.000Z" };
    store.keep(newer);
    store.keep(record(cell, 0.9));
    store.keep(record({ ...cell, seed: 12 }, 0.7));
    expect(store.latest(cell)).toEqual(newer);
  });

  it("tells code versions of Foreword and of its peers apart", () => {
    const own = codeVersion({ method: "prefix" });
    expect(own).toMatch(/^[0-9a-f]{8}$/);
    expect(codeVersion({ method: "soft" })).toBe(own);
    const others = (["search", "distill", "ensemble", "peft-lora"] as const).map(method =>
      codeVersion({ method }),
    );
    expect(new Set([own, ...others]).size).toBe(5);
  });
});

describe("the table", () => {
  const cells = allCells({ data: ["trec"], seeds: [1, 2, 3], peers: true });
  const runs = new Map([
    ["prefix/trec/1", 0.95],
    ["prefix/trec/2", 0.97],
    ["peft-prompt/trec/1", 0.9],
  ]);
  const table = tabulate(
    cells,
    cell => {
      const score = runs.get(nameOf(cell));
      return score === undefined ? null : record(cell, score);
    },
    ({ seed }) => (seed === 2 ? "newer" : "abc"),
  );

  it("has medians of what was run, and names what is missing", () => {
    const [hard, prefix] = ["hard", "prefix"].map(name => table.find(({ method }) => method === name));
    expect(hard).toMatchObject({ method: "hard", score: null, seeds: [], missing: [1] });
    expect(prefix).toMatchObject({ method: "prefix", seeds: [1, 2], missing: [3], older: [2] });
    expect(prefix!.score!.median).toBeCloseTo(96, 10);
    expect(prefix!.training_minutes!.median).toBe(2);
  });

  it("checks only what was run", () => {
    const { checks, missing } = checksOf(table);
    expect(checks.map(({ claim }) => claim)).toEqual([
      "prefix on trec",
      "training time on trec",
      "prefix over peft-prompt on trec",
    ]);
    expect(checks[2]!.figure.samples.map(Math.round)).toEqual([5, 7]);
    expect(missing).toContain("prefix/trec/3");
    expect(missing).not.toContain("prefix/trec/1");
  });
});

describe("machines", () => {
  it("are those of the runs, where they are known", () => {
    const cell = { method: "peft-lora", data: "trec" } as const;
    const runs: RunRecord[] = [
      record({ ...cell, seed: 1 }, 0.9),
      { ...record({ ...cell, seed: 2 }, 0.9), machine: { cpu: "some CPU", cores: 2 } },
      { ...record({ ...cell, seed: 3 }, 0.9), settings: { device: "some GPU" } },
    ];
    const [entry] = tabulate(
      runs,
      ({ seed }) => runs[seed - 1]!,
      () => "abc",
    );
    expect(entry!.machines).toEqual([null, "some CPU, 2 cores", "some GPU"]);
  });
});

describe("distilled prefixes", () => {
  it("are judged by their teacher's answers, and score; runs of before lack the score", () => {
    const cells = ([1, 2, 3] as const).map(seed => ({ method: "distill", data: "trec", seed }) as const);
    const run = (settings: object, index: number) => ({ ...record(cells[index]!, 0.8), settings });
    const checked = (all: object[]) => {
      const runs = all.map(run);
      return checksOf(
        tabulate(
          cells,
          ({ seed }) => runs[seed - 1] ?? null,
          () => "abc",
        ),
      ).checks;
    };
    const now = { test_agreement: 0.94, constant_agreement: 0.25, teacher_score: 0.82 };
    const [same, over] = checked([{ test_agreement: 0.92 }, now, { ...now, teacher_score: 0.79 }]) as [
      Check,
      Check,
    ];
    expect(same.claim).toBe(
      "distill on trec: answers that are its teacher's (its commonest one alone: 0.250)",
    );
    expect([same.figure.samples, same.floor]).toEqual([[0.92, 0.94, 0.94], 0.9]);
    expect(over.claim).toBe("distill over its teacher on trec");
    expect(over.figure.samples.map(Math.round)).toEqual([-2, 1]);
    expect(over.floor).toBe(-1);
    expect(checked([{ test_agreement: 0.92 }]).map(({ claim }) => claim)).toEqual([
      "distill on trec: answers that are its teacher's",
    ]);
  });
});

describe("ensembles", () => {
  it("vote on labels alone", () => {
    const cells = allCells({ data: ["e2e", "trec"], texts: ["e2e"], seeds: [1], peers: false });
    expect(cells.filter(({ method }) => method === "ensemble").map(nameOf)).toEqual(["ensemble/trec/1"]);
  });

  it("are judged by what they gain over their mean member, in points", () => {
    const gain = (value: number, p: number) => ({
      ...record({ method: "ensemble", data: "trec", seed: 1 }, 0.9),
      settings: { gain: { value, p } },
    });
    const cells = allCells({ data: ["trec"], seeds: [1, 2, 3], peers: false });
    const runs = [gain(0.004, 0.2), gain(0.008, 0.01), gain(0.006, 0.03)];
    const found = tabulate(
      cells,
      ({ method, seed }) => (method === "ensemble" ? runs[seed - 1]! : null),
      () => "abc",
    );
    const [{ claim, figure, floor }] = checksOf(found).checks as [Check];
    expect(claim).toBe("ensemble of five over its mean member on trec (p 0.030)");
    expect([figure.median, floor]).toEqual([0.6, 0.5]);
  });
});

describe("slots of JSON", () => {
  it("are read from attributes, in the schema's order, and scored by micro F1", () => {
    const slots = slotsOf("near[Ranch], name[The Mill], customer rating[1 out of 5]");
    expect(JSON.stringify(slots)).toBe('{"name":"The Mill","customer rating":"1 out of 5","near":"Ranch"}');
    // 2 right of 3 said and 4 asked for.
    expect(
      slotF1(
        [{ name: "a", food: "x" }, { area: "b" }],
        [
          { name: "a", food: "y" },
          { area: "b", near: "c" },
        ],
      ),
    ).toBeCloseTo(4 / 7, 12);
    expect(slotF1([{}], [{ name: "a" }])).toBe(0);
  });
});

describe("test data", () => {
  it("leaves out what is trained on, and joins the references of an input", () => {
    const train = [{ input: "seen", output: "x" }];
    const test = [
      { input: "seen ", output: "a" },
      { input: "new", output: "b" },
      { input: "newer", output: "c" },
      { input: "new", output: "d" },
    ];
    expect(testCases(train, test)).toEqual({
      test: [
        { input: "new", answers: ["b", "d"] },
        { input: "newer", answers: ["c"] },
      ],
      leftOut: 1,
    });
    const labelled = [
      { input: "twice", label: "a" },
      { input: "twice", label: "b" },
    ];
    expect(testCases([], labelled).test).toHaveLength(2);
  });

  it("is scored by its metric", () => {
    const test = ["a", "a", "a", "b"].map(answer => ({ input: "", answers: [answer] }));
    expect(scoreOf({ metric: "accuracy", test }, ["a", "b", "a", "b"]).score).toBe(0.75);
    expect(scoreOf({ metric: "macro_f1", test }, ["a", "b", "a", "b"]).score).toBeCloseTo(
      (0.8 + 2 / 3) / 2,
      12,
    );
  });
});
