import { execFileSync } from "node:child_process";
import { describe, test } from "vitest";

function installed(): boolean {
  try {
    execFileSync("redis-server", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** A suite that needs redis-server: left out aloud where it is not there, but never in CI. */
export function describeRedis(name: string, body: () => void): void {
  if (installed()) {
    describe(name, body);
    return;
  }
  const advice = "redis-server is not on PATH: install Redis 7.";
  if (process.env.CI) {
    test(name, () => {
      throw new Error(advice);
    });
    return;
  }
  console.warn(`LEFT OUT: ${name}. ${advice}`);
  test.skip(name, () => {});
}
