/** The compiler's process: compiles one backbone, and ends; by itself also when the server's channel closes. */
import type { FromCompiler, ToCompiler } from "./apart.ts";
import { openSource } from "./open.ts";
import { compileVariants } from "./variants.ts";

process.once("disconnect", () => process.exit(0));
process.once("message", async (settings: ToCompiler) => {
  // Whoever started this compiles what is missing, and says what is wrong.
  const { source, options } = await openSource(settings).catch(() => process.exit(1));
  await compileVariants(source, options, (phase, done) =>
    process.send!({ phase, done } satisfies FromCompiler),
  ).catch(() => process.exit(1));
  process.exit(0);
});
