import { defineConfig } from "vitest/config";

// Files run one after another: the native runtime takes every core, and two models at once would double the memory.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 300_000,
    reporters: ["default"],
  },
});
