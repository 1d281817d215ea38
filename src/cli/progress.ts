/** A job as it runs: one live line in a terminal, plain lines elsewhere. On standard error: the result is output. */
import { MultiBar, Presets } from "cli-progress";
import type { JobProgress } from "../contract/job.ts";
import { forPeople } from "../training/evaluation/metrics.ts";
import { plain } from "./text.ts";

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
function plainLines(): ProgressLine {
  let tenth = 0;
  return {
    update: ({ step, steps, loss, eta_seconds }) => {
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

const number = (value: number | null, digits = 3): string => (value === null ? "-" : value.toFixed(digits));

/** 4:05, or 1:02:30. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (value: number) => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
