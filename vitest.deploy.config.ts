import { configDefaults, defineConfig } from "vitest/config";
import base from "./vitest.config.ts";

// What stands in docker/, by its schemas and by starting it; the tools are installed at the first run.
export default defineConfig({
  test: {
    ...base.test,
    include: ["test/deploy/**/*.test.ts"],
    exclude: configDefaults.exclude,
    globalSetup: ["test/deploy/install.ts"],
  },
});
