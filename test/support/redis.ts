import { execFileSync } from "node:child_process";
import { describeUnless } from "./left-out.ts";

function installed(): boolean {
  try {
    execFileSync("redis-server", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** A suite that needs redis-server. */
export const describeRedis = (name: string, body: () => void): void =>
  describeUnless(installed() ? null : "redis-server is not on PATH: install Redis 7.", name, body);
