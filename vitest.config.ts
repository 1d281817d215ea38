import { configDefaults, defineConfig } from "vitest/config";

// Files run one after another: the native runtime takes every core, and two models at once would double the memory.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Needs Python's PEFT: npm run test:peft.
    exclude: [...configDefaults.exclude, "test/peft/**"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 300_000,
    reporters: ["default"],
  },
});
