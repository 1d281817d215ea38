import { expect, test } from "vitest";
import { replaces } from "../../../src/training/kept.ts";

/** The step that a run of these looks ends with, each a score and a loss. */
function keptOf(looks: readonly (readonly [number, number])[], standardError = 0.03): number | null {
  let kept: { step: number; validation: number; loss: number } | null = null;
  let best = Number.NEGATIVE_INFINITY;
  for (const [step, [validation, loss]] of looks.entries()) {
    const latest = { step, validation, loss };
    best = Math.max(best, validation);
    if (replaces(latest, { kept, best, standardError })) kept = latest;
  }
  return kept?.step ?? null;
}

test.each<[string, [number, number][], number]>([
  ["the first look is kept", [[0.2, 3]], 0],
  [
    "later parameters that are as good",
    [
      [0.9, 0.3],
      [0.9, 0.3],
      [0.88, 0.28],
    ],
    2,
  ],
  [
    "a better score, whatever the loss",
    [
      [0.9, 0.3],
      [0.92, 0.5],
    ],
    1,
  ],
  [
    "no score that is far worse, whatever the loss",
    [
      [0.9, 0.3],
      [0.85, 0.2],
    ],
    0,
  ],
  [
    "nothing that is worse in both, however little, and what comes behind is held against what is kept",
    [
      [0.9, 0.29],
      [0.89, 0.39],
      [0.88, 0.43],
      [0.89, 0.53],
    ],
    0,
  ],
  [
    "of losses the latest that is about as low",
    [
      [-0.5, 0.5],
      [-0.51, 0.51],
    ],
    1,
  ],
])("%s", (_, looks, step) => {
  expect(keptOf(looks)).toBe(step);
});
