import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adafactor, adamw, clip, optimisers, rateAt } from "../../../src/training/optimiser.ts";

describe("AdamW", () => {
  test("three steps on two numbers follow the formula of torch.optim.AdamW's documentation", () => {
    // Worked out apart: lr 0.1, betas (0.9, 0.999), eps 1e-8, weight_decay 0.01; gradients (1, -2), (0.5, 1), (0, 3).
    const parameters = [Float32Array.of(1, -1)];
    const optimiser = adamw([[2]], { weightDecay: 0.01 });
    const seen: number[][] = [];
    for (const gradient of [Float32Array.of(1, -2), Float32Array.of(0.5, 1), Float32Array.of(0, 3)]) {
      optimiser.step(parameters, [gradient], 0.1);
      seen.push([...parameters[0]!]);
    }
    const expected = [
      [0.899, -0.899],
      [0.804883, -0.871467],
      [0.73202, -0.909535],
    ];
    for (const [step, numbers] of expected.entries())
      for (const [i, number] of numbers.entries()) expect(seen[step]![i]).toBeCloseTo(number, 4);
  });
});

describe("Adafactor", () => {
  test("the first step is the sign of a gradient of rank one, at the rate", () => {
    // A gradient of rank one is its own factors: every update has size 1 before clipping to a root mean square of 1.
    const parameters = [new Float32Array(6)];
    const rows = [1, -2];
    const columns = [3, 0.5, -1];
    const gradient = Float32Array.from(rows.flatMap(row => columns.map(column => row * column)));
    adafactor([[2, 3]]).step(parameters, [gradient], 0.01);
    for (const [i, value] of parameters[0]!.entries())
      expect(value).toBeCloseTo(-0.01 * Math.sign(gradient[i]!), 6);
  });
  test("its state is the rows' and columns' sums alone", () => {
    const size = adafactor([[30, 1, 8, 64]])
      .state()
      .reduce((sum, array) => sum + array.length, 0);
    expect(size).toBe(1 + 240 + 64);
  });
});

describe.each(Object.entries(optimisers))("%s", (_, make) => {
  test("takes steps by a parameter's size, and off all of them the same share", () => {
    const parameters = [Float32Array.of(3, -2), Float32Array.of(3, -2)];
    const still = parameters.map(() => new Float32Array(2));
    make([[2], [2]], { sizes: [1, 40], weightDecay: 0.5 }).step(parameters, still, 0.1);
    for (const data of parameters) {
      expect(data[0]).toBeCloseTo(3 * 0.95, 6);
      expect(data[1]).toBeCloseTo(-2 * 0.95, 6);
    }
    const moved = [Float32Array.of(0, 0), Float32Array.of(0, 0)];
    make([[2], [2]], { sizes: [1, 40], weightDecay: 0.5 }).step(
      moved,
      [Float32Array.of(1, 1), Float32Array.of(1, 1)],
      0.1,
    );
    expect(moved[1]![0]! / moved[0]![0]!).toBeCloseTo(40, 4);
  });

  test("finds the bottom of a bowl", () => {
    const parameters = [Float32Array.of(3, -2, 1, 4)];
    const optimiser = make([[2, 2]]);
    for (let step = 0; step < 400; step++)
      optimiser.step(
        parameters,
        [parameters[0]!.map((x, i) => 2 * (i + 1) * (x - 1))],
        0.05 * (1 - step / 400),
      );
    for (const value of parameters[0]!) expect(value).toBeCloseTo(1, 1);
  });

  test("goes on from its state in the same bits", () => {
    const gradients = [Float32Array.of(0.3, -1, 2, 0.7)];
    const [whole, half] = [[Float32Array.of(1, 2, 3, 4)], [Float32Array.of(1, 2, 3, 4)]];
    const one = make([[2, 2]]);
    const first = make([[2, 2]]);
    for (let step = 0; step < 6; step++) one.step(whole, gradients, 0.01);
    for (let step = 0; step < 3; step++) first.step(half, gradients, 0.01);
    const second = make([[2, 2]]);
    second.restore(first.state().map(array => array.slice()));
    for (let step = 0; step < 3; step++) second.step(half, gradients, 0.01);
    expect([...half[0]!]).toEqual([...whole[0]!]);
  });
});

test("clipping keeps the direction and bounds the norm", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 20 }),
      fc.double({ min: 0.1, max: 10, noNaN: true }),
      (values, limit) => {
        const gradients = [Float32Array.from(values)];
        const before = gradients[0]!.slice();
        const norm = clip(gradients, limit);
        const after = Math.hypot(...gradients[0]!);
        expect(norm).toBeCloseTo(Math.hypot(...before), 3);
        expect(after).toBeLessThanOrEqual(limit * 1.001);
        if (norm <= limit) expect([...gradients[0]!]).toEqual([...before]);
        else
          for (const [i, value] of gradients[0]!.entries())
            expect(value).toBeCloseTo((before[i]! * limit) / norm, 3);
      },
    ),
  );
});

test("the rate rises to its peak, falls to nothing, and is never above the peak", () => {
  const schedule = { peak: 0.03, warmup: 10, steps: 100 };
  const rates = Array.from({ length: 101 }, (_, step) => rateAt(step, schedule));
  expect(rates[0]).toBeCloseTo(0.003, 9);
  expect(rates[9]).toBeCloseTo(0.03, 9);
  expect(rates[55]).toBeCloseTo(0.015, 3);
  expect(rates[100]).toBeCloseTo(0, 9);
  for (let step = 10; step < 100; step++) expect(rates[step + 1]!).toBeLessThan(rates[step]!);
});
