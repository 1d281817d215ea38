import { configDefaults, defineConfig } from "vitest/config";
import base, { slow } from "./vitest.config.ts";

// Proofs that take minutes: npm run test:docs, test:fault, test:peft, test:memory, test:deploy.
export default defineConfig({
  test: { ...base.test, include: slow, exclude: configDefaults.exclude },
});
