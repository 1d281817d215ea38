/** Jobs as they run, and a start: live lines in a terminal, plain ones elsewhere. On standard error: results are output. */
import { MultiBar, Presets, SingleBar } from "cli-progress";
import type { JobProgress } from "../contract/job.ts";
import type { Running } from "../main.ts";
import { forPeople } from "../training/evaluation/metrics.ts";
import { jsonOf } from "./request.ts";
import { plain } from "./text.ts";

/** How often a start is looked at. */
const LOOK_MS = 200;

export interface ProgressLine {
  update(progress: JobProgress): void;
  /** A line that stays. */
  log(text: string): void;
  stop(): void;
}

export const silentLine: ProgressLine = { update: () => {}, log: () => {}, stop: () => {} };

export const progressLine = (): ProgressLine => (process.stderr.isTTY ? liveLine() : plainLines());

function liveLine(): ProgressLine {
  const bars = new MultiBar(
    {
      format: "step {value}/{total} {bar} {learnt}{pace} | {left}",
      barsize: 24,
      hideCursor: true,
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  let bar: ReturnType<MultiBar["create"]> | null = null;
  return {
    update: progress => {
      const shown = {
        learnt:
          progress.loss === null
            ? ""
            : `loss ${number(progress.loss)} | validation ${forPeople(progress.validation, 3)} | `,
        pace: `${number(progress.examples_per_second, 1)} examples/s`,
        left: progress.eta_seconds === null ? "" : `${duration(progress.eta_seconds)} left`,
      };
      bar ??= bars.create(progress.steps, progress.step, shown);
      bar.setTotal(progress.steps);
      bar.update(progress.step, shown);
    },
    log: text => {
      if (bar) bars.log(`${plain(text)}\n`);
      else process.stderr.write(`${plain(text)}\n`);
    },
    stop: () => {
      if (!bar) return;
      bars.update();
      bars.stop();
    },
  };
}

/** Progress by tenths, so that a log stays short. */
export function plainLines(): ProgressLine {
  let [tenth, last, of] = [0, 0, 0];
  return {
    update: ({ step, steps, loss, eta_seconds }) => {
      // Another part of the job, such as training behind the donors' ranking, or the same one begun again.
      if (steps !== of || step < last) tenth = 0;
      [last, of] = [step, steps];
      const now = Math.floor((10 * step) / steps);
      if (now <= tenth) return;
      tenth = now;
      const left = eta_seconds === null || step === steps ? "" : `, ${duration(eta_seconds)} left`;
      const learnt = loss === null ? "" : `, loss ${number(loss)}`;
      process.stderr.write(`step ${step}/${steps}${learnt}${left}\n`);
    },
    log: text => void process.stderr.write(`${plain(text)}\n`),
    stop: () => {},
  };
}

/** The part of `/readyz` that is shown. */
interface State {
  phase: string;
  progress: number | null;
}

/** How far a server of this process is: the first start takes minutes. In a terminal alone, on a line that goes. */
export async function untilReady(
  { address, ready }: Pick<Running, "address" | "ready">,
  stream: NodeJS.WritableStream & { isTTY?: boolean } = process.stderr,
): Promise<void> {
  if (!stream.isTTY) return ready;
  // The terminal's cursor and wrapping stay on: Ctrl-C, which nothing catches here, would leave them off.
  const bar = new SingleBar(
    { stream, format: "{phase}{percent}", linewrap: true, clearOnComplete: true },
    Presets.shades_classic,
  );
  bar.start(1, 0, { phase: "starting", percent: "" });
  const look = async () => {
    const answer = await fetch(`${address}/readyz`);
    const { phase, progress } = await jsonOf<State>({ server: address }, answer);
    bar.update({ phase: plain(phase), percent: progress === null ? "" : ` ${Math.floor(100 * progress)} %` });
  };
  // What goes wrong is told by `ready`.
  const looking = setInterval(() => void look().catch(() => {}), LOOK_MS);
  try {
    await ready;
  } finally {
    clearInterval(looking);
    bar.stop();
  }
}

const number = (value: number | null, digits = 3): string => (value === null ? "-" : value.toFixed(digits));

/** 4:05, or 1:02:30. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (value: number) => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
