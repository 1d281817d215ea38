import { describe, test } from "vitest";

/** A suite that needs what this machine may lack: `missing` says what, and the suite is left out aloud, but never in CI. */
export function describeUnless(missing: string | null, name: string, body: () => void): void {
  if (missing === null) {
    describe(name, body);
    return;
  }
  if (process.env.CI) {
    test(name, () => {
      throw new Error(missing);
    });
    return;
  }
  console.warn(`LEFT OUT: ${name}. ${missing}`);
  test.skip(name, () => {});
}
