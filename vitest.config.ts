import { configDefaults, defineConfig } from "vitest/config";

/** In runs of their own (vitest.slow.config.ts): every command of the README, processes that are killed, Python's PEFT, a trainer's memory, what stands in docker/. */
export const slow = ["docs", "fault", "peft", "memory", "deploy"].map(
  folder => `test/${folder}/**/*.test.ts`,
);

// Files run one after another: the native runtime takes every core, and two models at once would double the memory.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...slow],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 300_000,
    reporters: ["default"],
  },
});
