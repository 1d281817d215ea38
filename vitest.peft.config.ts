import { configDefaults, defineConfig } from "vitest/config";
import base from "./vitest.config.ts";

// What PEFT and transformers say of the same numbers; their packages are installed at the first run.
export default defineConfig({
  test: {
    ...base.test,
    include: ["test/peft/**/*.test.ts"],
    exclude: configDefaults.exclude,
    globalSetup: ["test/peft/install.ts"],
  },
});
