import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { compileFunction } from "node:vm";

export type XGrammar = typeof import("@mlc-ai/web-xgrammar")["default"];

/**
 * A new copy of XGrammar's WebAssembly build. Its package calls itself an ES module and is a UMD script, so the script
 * is compiled here and given CommonJS's names. Each call makes a copy with a memory of its own, which an error in
 * another cannot have spoilt. `say` is told what XGrammar would write to the console.
 */
export async function loadXGrammar(say: (line: string) => void): Promise<XGrammar> {
  const require = createRequire(import.meta.url);
  const filename = require.resolve("@mlc-ai/web-xgrammar");
  // Its one dynamic import: Node lets compiled functions import by an experimental option alone.
  const source = (await readFile(filename, "utf8")).replace("await import('module')", "require('module')");
  const names = ["exports", "module", "require", "__filename", "__dirname", "console"];
  const script = compileFunction(source, names, { filename });
  const exports: { default?: XGrammar } = {};
  const console = { log: say, warn: say, error: say };
  script.call(exports, exports, { exports }, require, filename, dirname(filename), console);
  return exports.default!;
}
