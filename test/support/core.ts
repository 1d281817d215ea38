import type {
  ClassifyAnswer,
  EngineRequest,
  GenerateAnswer,
  PromptContent,
} from "../../src/engine/engine.ts";
import { openCore as open } from "../../src/engine/open.ts";

/** An engine in this thread, with prompts given by hand. */
export async function openCore(
  path: string,
  cache: string,
  runtimeName: "onnx" | "tfjs" = "onnx",
  precision: "fp32" | "int8" = "fp32",
  cacheBytes = 512 * 2 ** 20,
) {
  const contents = new Map<string, PromptContent>();
  const waits = new Map<string, Promise<void>>();
  const opened = await open(
    {
      backbone: path,
      cache,
      runtime: runtimeName,
      threads: 2,
      precision,
      cacheBytes,
      batchTokens: 2048,
      queue: 1024,
    },
    {
      load: async digest => {
        await waits.get(digest);
        return contents.get(digest)!;
      },
    },
    () => {},
  );
  const { core, session, source, tokenizer, runtime, close } = opened;
  const { fingerprint } = opened.compiled;
  const prompt = (template: string, parameters: Uint8Array | null = null): string => {
    const { digest } = core.inspect({ template, parameters });
    contents.set(digest, { template, parameters });
    return digest;
  };
  /** A prompt is not there before. */
  const reading = (digest: string, until: Promise<void>) => void waits.set(digest, until);
  const far = () => ({ deadline: Date.now() + 600_000, cancelled: () => false, onToken: () => {} });
  const infer = <Request extends EngineRequest>(request: Request) => core.infer(request, far());
  return {
    core,
    tokenizer,
    config: source.config,
    fingerprint,
    session,
    runtime,
    prompt,
    reading,
    infer,
    far,
    close,
  };
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
