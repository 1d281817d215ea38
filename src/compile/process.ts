/** The compiler's process: compiles one backbone, and ends; by itself also when the server's channel closes. */
import type { FromCompiler, ToCompiler } from "./apart.ts";
import { openSource } from "./open.ts";
import { compileVariants } from "./variants.ts";

process.once("disconnect", () => process.exit(0));
process.once("message", async (settings: ToCompiler) => {
  try {
    const { source, options } = await openSource(settings);
    await compileVariants(source, options, (phase, done) =>
      process.send!({ phase, done } satisfies FromCompiler),
    );
    process.exit(0);
  } catch {
    // Whoever started this compiles what is missing, and says what is wrong.
    process.exit(1);
  }
});
