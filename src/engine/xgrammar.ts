import { createRequire } from "node:module";
import { dirname } from "node:path";

export type XGrammar = typeof import("@mlc-ai/web-xgrammar")["default"];

/**
 * XGrammar's WebAssembly build, loaded when it is first wanted. Its package calls itself an ES module and is a UMD
 * script: it reaches for CommonJS's `require`, `__filename` and `__dirname`, which are lent to it, and leaves its
 * exports on the global object.
 */
export async function loadXGrammar(): Promise<XGrammar> {
  const require = createRequire(import.meta.url);
  const main = require.resolve("@mlc-ai/web-xgrammar");
  Object.assign(globalThis, { require, __filename: main, __dirname: dirname(main) });
  await import("@mlc-ai/web-xgrammar");
  return (globalThis as unknown as { xgrammar: { default: XGrammar } }).xgrammar.default;
}
