/** The engine over a backbone on disk: compiled, loaded, ready to answer in the thread that called. */
import { keepingGraph } from "../backbone/kept.ts";
import type { BackboneSource } from "../backbone/source.ts";
import type { Tokenizer } from "../backbone/tokenizer.ts";
import { compileApart } from "../compile/apart.ts";
import type { CompiledBackbone, Progress } from "../compile/backbone.ts";
import { type OpenSettings, openSource } from "../compile/open.ts";
import { compileVariants, type Variants } from "../compile/variants.ts";
import type { LoadOptions, Runtime, Session } from "../runtime/runtime.ts";
import { Core } from "./core.ts";
import type { PromptSource } from "./engine.ts";

/** While rows decode, a prefill run takes at most this many tokens: about half a second on two cores. */
const TOKENS_WHILE_DECODING = 512;
/** Rows that decode at once, as long as their keys and values take no more than this. */
const SEATS = 32;
const SEAT_BYTES = 2 ** 30;
/** Keys and values that a prefill run copies together at most, and as much again of attention scores. */
const RUN_BYTES = 2 ** 28;

export interface CoreSettings extends OpenSettings {
  cacheBytes: number;
  batchTokens: number;
  queue: number;
  /** How the session holds its weights and its memory. */
  load?: LoadOptions;
  /** Awaited before each run: its rows are settled by then, so that no answer depends on it. */
  pause?: () => Promise<void>;
}

export interface OpenedCore {
  core: Core;
  /** Another engine, on a session of one of the variants (a `keepingGraph`). */
  coreOver(session: Session, compiled: Variants["chosen"], chunk?: number): Core;
  session: Session;
  source: BackboneSource;
  tokenizer: Tokenizer;
  compiled: Variants["chosen"];
  variants: Variants;
  /** A variant that need not be the one that answers. */
  variantOf(precision: CompiledBackbone["precision"]): Promise<CompiledBackbone>;
  runtime: Runtime;
  /** Waits for what is running, and gives everything back. */
  close(): Promise<void>;
}

/** Throws `bad_backbone` where the backbone is not whole, `draining` where `signal` ends its compiling. */
export async function openCore(
  settings: CoreSettings,
  prompts: PromptSource,
  progress: Progress,
  signal?: AbortSignal,
): Promise<OpenedCore> {
  progress("reading the backbone", null);
  const { source, tokenizer, runtime, options } = await openSource(settings);
  await compileApart(settings, source, options, progress, { signal });
  const variants = await compileVariants(source, options, progress);
  const compiled = variants.chosen;
  progress("loading the backbone", null);
  const { config } = source;
  const graph = keepingGraph(compiled.graph, config.layers);
  const loaded = await runtime.load(graph, compiled.weights, settings.load);
  const session = settings.pause ? pausing(loaded, settings.pause) : loaded;
  // The rotary table bounds a run's tokens (an onnxruntime check), and no run needs more than a context's length.
  const batchTokens = Math.min(settings.batchTokens, config.maxPositions);
  const limits = {
    batchTokens,
    batchTokensWhileDecoding: Math.min(TOKENS_WHILE_DECODING, batchTokens),
    runBytes: RUN_BYTES,
    seats: SEATS,
    seatBytes: SEAT_BYTES,
    queue: settings.queue,
  };
  const { cacheBytes } = settings;
  const coreOver: OpenedCore["coreOver"] = (session, compiled, chunk) =>
    new Core({ session, config, tokenizer, compiled, prompts, limits, cacheBytes, chunk });
  const core = coreOver(session, compiled);
  const variantOf: OpenedCore["variantOf"] = async precision => {
    const there = [compiled, variants.plain].find(each => each.precision === precision);
    if (there) return there;
    const wanted = { ...options, precision };
    await compileApart({ ...settings, precision }, source, wanted, progress, { signal });
    return (await compileVariants(source, wanted, progress)).chosen;
  };
  const close = async () => {
    await core.close();
    await session.close();
    await source.close();
  };
  return { core, coreOver, session, source, tokenizer, compiled, variants, variantOf, runtime, close };
}

const pausing = (session: Session, pause: () => Promise<void>): Session => ({
  run: async (feeds, fetches) => {
    await pause();
    return session.run(feeds, fetches);
  },
  close: () => session.close(),
});
