import { openBackbone } from "../../src/backbone/source.ts";
import { Tokenizer } from "../../src/backbone/tokenizer.ts";
import { compileBackbone } from "../../src/compile/backbone.ts";
import { Core } from "../../src/engine/core.ts";
import type {
  ClassifyAnswer,
  EngineRequest,
  GenerateAnswer,
  PromptContent,
} from "../../src/engine/engine.ts";
import { createRuntime } from "../../src/runtime/create.ts";

/** An engine in this thread, with prompts given by hand. */
export async function openCore(path: string, cache: string, runtimeName: "onnx" | "tfjs" = "onnx") {
  const source = await openBackbone(path);
  const tokenizer = Tokenizer.from((await source.tokenizerFiles())!);
  const { graph, weights, fingerprint } = await compileBackbone(source, cache, () => {});
  const runtime = await createRuntime(runtimeName, 2);
  const session = await runtime.load(graph, weights);
  const contents = new Map<string, PromptContent>();
  const core = new Core({
    session,
    config: source.config,
    tokenizer,
    fingerprint,
    prompts: { load: async digest => contents.get(digest)! },
    limits: {
      batchTokens: 2048,
      batchTokensWhileDecoding: 512,
      seats: 32,
      seatBytes: 2 ** 30,
      runBytes: 2 ** 28,
      queue: 1024,
    },
    cacheBytes: 512 * 2 ** 20,
  });
  const prompt = (template: string, parameters: Uint8Array | null = null): string => {
    const { digest } = core.inspect({ template, parameters });
    contents.set(digest, { template, parameters });
    return digest;
  };
  const far = () => ({ deadline: Date.now() + 600_000, cancelled: () => false, onToken: () => {} });
  const close = async () => {
    await core.idle();
    await session.close();
    await source.close();
  };
  const infer = <Request extends EngineRequest>(request: Request) => core.infer(request, far());
  return { core, tokenizer, config: source.config, fingerprint, session, runtime, prompt, infer, far, close };
}

export type TestCore = Awaited<ReturnType<typeof openCore>>;

const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, stop: [], logprobs: null };

export const generateRequest = (prompt: string, input: string, more: object = {}) =>
  ({ kind: "generate", prompt, fields: { input }, maxTokens: 16, ...sampling, ...more }) as const;

export const classifyRequest = (
  prompt: string,
  input: string,
  labels: Record<string, string | string[]>,
  more: object = {},
) =>
  ({
    kind: "classify",
    prompt,
    fields: { input },
    labels: Object.entries(labels).map(([label, verbalizers]) => ({
      label,
      verbalizers: [verbalizers].flat(),
    })),
    scores: "all",
    ...more,
  }) as const;

export type { ClassifyAnswer, GenerateAnswer };
