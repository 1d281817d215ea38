/** What the runs say together: a table with what is missing, and the checks of it. */
import { type Check, check, machineName } from "../harness/report.ts";
import { type Summary, summarise } from "../harness/samples.ts";
import { type Cell, type Method, nameOf } from "./cells.ts";
import type { RunRecord } from "./store.ts";

export interface Entry {
  method: Method;
  data: string;
  metric: RunRecord["metric"] | null;
  /** Of 100, whatever the metric; null before the first run. */
  score: Summary | null;
  /** On this bench's own kind of machine: null also where a GPU trained. */
  training_minutes: Summary | null;
  seeds: number[];
  /** Of each seed, where it is known. */
  machines: (string | null)[];
  missing: number[];
  /** Seeds that older code ran. */
  older: number[];
  /** Of ensembles over their mean member, as shares of 1. */
  gains: Gain[];
  distilled: Distilled[];
}

interface Gain {
  value: number;
  /** Of the paired bootstrap. */
  p: number;
}

/** A distilled prefix beside its teacher, on test; runs of before know the first figure alone. */
interface Distilled {
  /** The share of the answers that are its teacher's, and what the teacher's commonest answer alone would have. */
  agreement: number;
  constant: number | null;
  /** As scores. */
  over_teacher: number | null;
}

/** One entry for each method on each data set, in the cells' order. */
export function tabulate(
  cells: readonly Cell[],
  find: (cell: Cell) => RunRecord | null,
  code: (cell: Cell) => string,
): Entry[] {
  const groups = groupBy(cells, ({ method, data }) => `${method}/${data}`);
  return [...groups.values()].map(group => {
    const found = group.map(cell => find(cell));
    const runs = found.filter(run => run !== null);
    const { method, data } = group[0]!;
    return {
      method,
      data,
      metric: runs[0]?.metric ?? null,
      score: runs.length > 0 ? summarise(runs.map(run => points(run))) : null,
      training_minutes: minutesOf(
        runs.filter(({ settings }) => !("device" in settings) || settings.device === "cpu"),
      ),
      seeds: runs.map(({ seed }) => seed),
      machines: runs.map(ranOn),
      missing: group.filter((_, index) => found[index] === null).map(({ seed }) => seed),
      older: runs.filter(run => run.code !== code(run)).map(({ seed }) => seed),
      gains: runs.flatMap(({ settings }) => (settings as { gain?: Gain }).gain ?? []),
      distilled: runs.flatMap(run => distilledOf(run) ?? []),
    };
  });
}

/** In the order in which groups first come. */
export function groupBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group) group.push(item);
    else groups.set(keyOf(item), [item]);
  }
  return groups;
}

function ranOn({ machine, settings }: RunRecord): string | null {
  const { device } = settings as { device?: string };
  if (device !== undefined && device !== "cpu") return device;
  return machine ? machineName(machine) : null;
}

const minutesOf = (runs: readonly RunRecord[]): Summary | null =>
  runs.length > 0 ? summarise(runs.map(run => run.training_seconds / 60)) : null;

function distilledOf(run: RunRecord): Distilled | null {
  const {
    test_agreement: agreement,
    constant_agreement: constant = null,
    teacher_score: theirs,
  } = run.settings as { test_agreement?: number; constant_agreement?: number; teacher_score?: number };
  if (agreement === undefined) return null;
  const over_teacher = theirs === undefined ? null : points(run) - points({ ...run, score: theirs });
  return { agreement, constant, over_teacher };
}

const points = ({ metric, score }: RunRecord): number => (metric === "bleu" ? score : 100 * score);

export const written = (minutes: Summary | null): string =>
  minutes ? `${minutes.median.toFixed(1)} min` : "on a GPU";

export function printTable(entries: readonly Entry[]): void {
  for (const [data, rows] of groupBy(entries, each => each.data)) {
    const metric = rows.find(each => each.metric !== null)?.metric;
    console.log(`\n${data}${metric ? `, ${metric}` : ""}`);
    for (const { method, score, training_minutes, missing, older } of rows) {
      const figure = score
        ? `${score.median.toFixed(1).padStart(6)} (${score.min.toFixed(1)} to ${score.max.toFixed(1)}), ${written(training_minutes)}`
        : "     –";
      const lacks = missing.length > 0 ? `  missing seeds: ${missing.join(", ")}` : "";
      const old = older.length > 0 ? `  of older code: ${older.join(", ")}` : "";
      console.log(`  ${method.padEnd(12)}${figure}${lacks}${old}`);
    }
  }
  console.log();
}

/** What the method that is the default must reach on test, of 100, within `MINUTES` of training. */
export const floors: Readonly<Record<string, number>> = {
  trec: 95.5,
  sst2: 90.5,
  banking77: 86,
  "sms-spam": 96,
};
const MINUTES = 15;
const OVER_PEERS = 1;
const OVER_PLAIN = 5;
const OVER_MEMBERS = 0.5;
/** Of a distilled prefix: answers that are its teacher's, of 1, and its score less the teacher's. */
const AGREEMENT = 0.9;
const OVER_TEACHER = -1;

/** Only of what was run; `missing` names the runs that a check waits for. */
export function checksOf(entries: readonly Entry[]): { checks: Check[]; missing: string[] } {
  const missing: string[] = [];
  const samplesOf = (method: Method, data: string): number[] | null => {
    const entry = entries.find(each => each.method === method && each.data === data);
    if (!entry?.score) return null;
    return entry.score.samples;
  };
  for (const { method, data, missing: seeds } of entries)
    for (const seed of seeds) missing.push(nameOf({ method, data, seed }));
  const checks: Check[] = [];
  for (const entry of entries.filter(({ method }) => method === "prefix")) {
    const { data, metric, score, training_minutes: minutes } = entry;
    if (!score || !minutes) continue;
    const unit = metric === "bleu" ? "BLEU" : "points";
    const floor = floors[data];
    if (floor !== undefined) checks.push(check(`prefix on ${data}`, unit, score.samples, { floor }));
    checks.push(check(`training time on ${data}`, "min", minutes.samples, { ceiling: MINUTES }));
    for (const peer of ["peft-prompt", "peft-prefix"] as const) {
      const theirs = samplesOf(peer, data);
      if (!theirs) continue;
      const best = summarise(theirs).median;
      checks.push(
        check(
          `prefix over ${peer} on ${data}`,
          unit,
          score.samples.map(value => value - best),
          { floor: metric === "bleu" ? OVER_PEERS : 0 },
        ),
      );
    }
  }
  for (const { data, gains } of entries.filter(({ method }) => method === "ensemble")) {
    if (gains.length === 0) continue;
    const points = gains.map(({ value }) => 100 * value);
    const p = summarise(gains.map(gain => gain.p)).median;
    const claim = `ensemble of five over its mean member on ${data} (p ${p.toPrecision(2)})`;
    checks.push(check(claim, "points", points, { floor: OVER_MEMBERS }));
  }
  for (const { data, metric, distilled } of entries.filter(({ method }) => method === "distill")) {
    const known = (values: (number | null)[]) => values.filter(value => value !== null);
    const constants = known(distilled.map(({ constant }) => constant));
    const alone =
      constants.length > 0 ? ` (its commonest one alone: ${summarise(constants).median.toFixed(3)})` : "";
    const agreements = distilled.map(({ agreement }) => agreement);
    const claim = `distill on ${data}: answers that are its teacher's${alone}`;
    // Two texts are hardly ever the same.
    if (agreements.length > 0 && metric !== "bleu")
      checks.push(check(claim, "of 1", agreements, { floor: AGREEMENT }));
    const gaps = known(distilled.map(({ over_teacher }) => over_teacher));
    const unit = metric === "bleu" ? "BLEU" : "points";
    if (gaps.length > 0)
      checks.push(check(`distill over its teacher on ${data}`, unit, gaps, { floor: OVER_TEACHER }));
  }
  for (const { data, score } of entries.filter(({ method }) => method === "search")) {
    const plain = samplesOf("plain", data);
    if (!score || !plain) continue;
    const gains = score.samples.map(value => value - plain[0]!);
    checks.push(check(`search over the plain pattern on ${data}`, "points", gains, { floor: OVER_PLAIN }));
  }
  return { checks, missing };
}
