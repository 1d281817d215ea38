import { configDefaults, defineConfig } from "vitest/config";
import base, { slow } from "./vitest.config.ts";

// Proofs that take minutes: npm run test:peft, npm run test:docs.
export default defineConfig({
  test: { ...base.test, include: slow, exclude: configDefaults.exclude },
});
