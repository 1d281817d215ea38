/** The thread of one grammar: a copy of XGrammar that compiles its schema, and works out the masks of its rows. */
import { parentPort, workerData } from "node:worker_threads";
import type { FromGrammar, GrammarThreadData, ToGrammar } from "./grammar-protocol.ts";
import { schemaGrammar } from "./json-grammar.ts";
import { JsonMatcher } from "./json-matcher.ts";
import { type JsonTokens, Utf8 } from "./json-tokens.ts";
import { loadXGrammar } from "./xgrammar.ts";

const { tokens: shared, vocabularyType, size, eosIds } = workerData as GrammarThreadData;
const port = parentPort!;
const post = (message: FromGrammar, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

/** What XGrammar wrote of the schema that it compiles; the last line says why it gave up. */
const complaints: string[] = [];
const rows = new Map<number, JsonMatcher>();
let grammar: Awaited<ReturnType<Loaded["compiler"]["compileGrammar"]>> | null = null;

type Loaded = Awaited<ReturnType<typeof load>>;
async function load() {
  const tokens = JSON.parse(Buffer.from(shared).toString()) as JsonTokens;
  const xgrammar = await loadXGrammar(line => complaints.push(line));
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
    [...tokens.words],
    vocabularyType,
    false,
    size,
    [...eosIds],
  );
  // Its own cache keeps all that it ever compiled.
  const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false);
  const signs = new Map(tokens.signs);
  return { xgrammar, compiler, tokens: { ...tokens, words: [] }, utf8: new Utf8(tokens), signs };
}
const loading = load();

async function compile(schema: string): Promise<void> {
  try {
    const { xgrammar, compiler } = await loading;
    grammar?.dispose();
    grammar = null;
    complaints.length = 0;
    const parsed = await xgrammar.Grammar.fromEBNF(await schemaGrammar(schema, xgrammar));
    grammar = await compiler.compileGrammar(parsed).finally(() => parsed.dispose());
    // Some schemas it gives up on at the first mask.
    const first = await matcher();
    await first.mask();
    first.dispose();
    // A later failure must not be explained by what XGrammar said about the schema.
    complaints.length = 0;
    post({ type: "compiled" });
  } catch (error) {
    post({ type: "refused", why: reason(error) });
  }
}

async function matcher(): Promise<JsonMatcher> {
  const { xgrammar, tokens, utf8, signs } = await loading;
  return new JsonMatcher(await xgrammar.GrammarMatcher.createGrammarMatcher(grammar!), tokens, utf8, signs);
}

async function answer(message: Exclude<ToGrammar, { type: "compile" }>): Promise<void> {
  const { row } = message;
  try {
    if (message.type === "open") rows.set(row, await matcher());
    const found = rows.get(row);
    if (message.type === "dispose") {
      rows.delete(row);
      found?.dispose();
      post({ type: "disposed", row });
    } else if (message.type === "close") {
      post({ type: "closing", row, tokens: await found!.close() });
    } else {
      if (message.type === "accept") found!.accept(message.token);
      const mask = await found!.mask();
      post({ type: "mask", row, mask }, mask ? [mask.buffer] : []);
    }
  } catch (error) {
    post({ type: "failed", row, why: reason(error) });
  }
}

const reason = (error: unknown) =>
  (complaints.at(-1) ?? String((error as Error).message ?? error)).replace(/^\[FATAL\] \S+ /, "");

port.on("message", (message: ToGrammar) => {
  if (message.type === "compile") void compile(message.schema);
  else void answer(message);
});
