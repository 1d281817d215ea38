import { configDefaults, defineConfig } from "vitest/config";

/** In runs of their own (vitest.slow.config.ts): one needs Python's PEFT, one runs every command of the README. */
export const slow = ["test/peft/**/*.test.ts", "test/docs/**/*.test.ts"];

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
