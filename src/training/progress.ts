/** How far a run is: its curve, its pace, the best it found (part of a checkpoint), and the answers that a job asks for. */
import type { TrainHooks } from "./job.ts";

export interface CurvePoint {
  step: number;
  loss: number;
}
export interface Look {
  step: number;
  validation: number;
}

/** Points that a curve keeps. */
const POINTS = 200;

/** Mean losses of equal stretches of steps, at most `POINTS` of them. */
export function curveOf(losses: readonly number[]): CurvePoint[] {
  const stretch = Math.max(1, Math.ceil(losses.length / POINTS));
  const points: CurvePoint[] = [];
  for (let at = 0; at < losses.length; at += stretch) {
    const part = losses.slice(at, at + stretch);
    points.push({ step: at + part.length, loss: part.reduce((sum, loss) => sum + loss, 0) / part.length });
  }
  return points;
}

/** Examples a second and what is left, over the last steps alone: the machine is shared. */
export class Pace {
  readonly #steps: { at: number; step: number }[] = [];

  at(step: number, now: number): void {
    this.#steps.push({ at: now, step });
    if (this.#steps.length > 20) this.#steps.shift();
  }

  stepsPerSecond(): number | null {
    const [first, last] = [this.#steps[0], this.#steps.at(-1)];
    if (!first || !last || last.at <= first.at) return null;
    return ((last.step - first.step) * 1000) / (last.at - first.at);
  }
}

/** To be called before each of about `steps` answers: tells how many there are, and when there will be all. */
export function counting({ progress }: Pick<TrainHooks, "progress">, steps: number): () => void {
  let step = 0;
  let began = 0;
  return () => {
    began ||= Date.now();
    step++;
    const pace = (1000 * step) / (Date.now() - began + 1);
    progress({
      step,
      steps: Math.max(step, steps),
      loss: null,
      examples_per_second: pace,
      eta_seconds: Math.max(0, steps - step) / pace,
      validation: null,
    });
  };
}
