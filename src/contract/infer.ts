import { type Static, Type } from "typebox";
import { Dictionary, ProblemDocument, Version } from "./common.ts";
import { PromptKind } from "./prompt.ts";
import { Contender } from "./task.ts";

const Message = Type.Object(
  { role: Type.Enum(["system", "user", "assistant", "tool"]), content: Type.String() },
  { additionalProperties: false },
);

export const Input = Type.Union(
  [
    Type.String(),
    Dictionary(Type.Union([Type.String(), Type.Array(Message, { minItems: 1, maxItems: 256 })])),
  ],
  {
    description:
      "A text fills the template's one field; an object fills the fields by name, `messages` with the turns of a chat.",
  },
);
export type Input = Static<typeof Input>;

export const InferRequest = Type.Object(
  {
    input: Type.Optional(Input),
    inputs: Type.Optional(
      Type.Array(Type.Unknown(), {
        minItems: 1,
        maxItems: 256,
        description: "Several at once, in place of input; each has an answer or an error of its own.",
      }),
    ),
    prompt: Type.Optional(
      Type.With(Contender, {
        description:
          "A version, or several that vote, in place of what is active; without the active record's bias, temperature and limits.",
      }),
    ),
    scores: Type.Optional(
      Type.Enum(["top", "all"], {
        description: "The probability of the best label (top, the default), or of all, the 32 best of many.",
      }),
    ),
    members: Type.Optional(
      Type.Boolean({ description: "Tell how each member of an ensemble votes. By default false." }),
    ),
    targets: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        minItems: 1,
        maxItems: 64,
        description: "Texts whose log-probability behind the input is told.",
      }),
    ),
    max_tokens: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 8192, description: "Of the text that is written; 64 by default." }),
    ),
    temperature: Type.Optional(
      Type.Number({ minimum: 0, maximum: 10, description: "0, the default, writes the likeliest tokens." }),
    ),
    top_p: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1,
        description: "Samples from the likeliest tokens that have this probability together; 1 by default.",
      }),
    ),
    top_k: Type.Optional(
      Type.Integer({
        minimum: 0,
        description: "Samples from so many of the likeliest; 0, the default: all.",
      }),
    ),
    repetition_penalty: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 10,
        description:
          "Makes tokens that occurred less likely, above 1, which is the default (Keskar et al. 2019).",
      }),
    ),
    stop: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
        maxItems: 8,
        description: "Texts before which the answer ends.",
      }),
    ),
    seed: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 4294967295, description: "The same one samples the same text." }),
    ),
    logprobs: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 20,
        description: "Tell each token's log-probability, and those of so many likeliest ones.",
      }),
    ),
    json_schema: Type.Optional(
      Dictionary(Type.Unknown(), { description: "The text is JSON that satisfies this schema." }),
    ),
    choices: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        minItems: 1,
        maxItems: 1024,
        description: "The text is one of these.",
      }),
    ),
    truncate: Type.Optional(
      Type.Enum(["start", "end"], {
        description: "Cuts an input that does not fit, there; without it such an input is refused.",
      }),
    ),
    timeout_ms: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 3_600_000,
        description: "Afterwards the answer is `deadline`; FOREWORD_TIMEOUT_MS by default.",
      }),
    ),
    route_key: Type.Optional(
      Type.String({ maxLength: 256, description: "With a split: the same key has the same version." }),
    ),
    stream: Type.Optional(
      Type.Boolean({ description: "Server-sent events, a text as it is written. By default false." }),
    ),
  },
  { additionalProperties: false, examples: [{ input: "A warm, funny film." }] },
);
export type InferRequest = Static<typeof InferRequest>;

export const Usage = Type.Object({
  input_tokens: Type.Integer({ description: "All positions before the answer, the prompt's included." }),
  cached_tokens: Type.Integer({ description: "Those of them that came from a cached KV prefix." }),
  output_tokens: Type.Integer(),
});
export type Usage = Static<typeof Usage>;

export const TargetScore = Type.Object({
  text: Type.String(),
  logprob: Type.Number({ description: "Natural log of P(text | prompt, input), summed over its tokens." }),
  tokens: Type.Integer(),
});
export type TargetScore = Static<typeof TargetScore>;

export const TokenLogprob = Type.Object({
  token: Type.String(),
  logprob: Type.Number({ description: "The model's own: before penalty, constraint and temperature." }),
  top: Type.Array(Type.Object({ token: Type.String(), logprob: Type.Number() }), {
    description: "The likeliest ones, as many as `logprobs` asked for.",
  }),
});
export type TokenLogprob = Static<typeof TokenLogprob>;

export const FinishReason = Type.Enum(["stop", "length"], {
  description:
    "stop: the text came to its end, or to one of `stop`; length: `max_tokens` or the context cut it.",
});
export type FinishReason = Static<typeof FinishReason>;

const PromptUsed = Type.Union(
  [
    Type.Object({ version: Version, kind: PromptKind }),
    Type.Object({ ensemble: Type.Array(Version), vote: Type.String() }),
  ],
  { description: "What answered." },
);

const Scores = Dictionary(Type.Number(), {
  description:
    "Probabilities by label, the best first: of the best one, or of those that `scores` asked for.",
});

export const InferReply = Type.Object({
  task: Type.String(),
  label: Type.Optional(
    Type.Union([Type.String(), Type.Null()], {
      description:
        "Of a classification: the best label, or null where it is unsure (`unsure_below`, `agreement_below`).",
    }),
  ),
  scores: Type.Optional(Scores),
  text: Type.Optional(Type.String({ description: "Of a generation." })),
  finish_reason: Type.Optional(FinishReason),
  logprobs: Type.Optional(Type.Array(TokenLogprob, { description: "One for each token of the text." })),
  targets: Type.Optional(Type.Array(TargetScore)),
  prompt: PromptUsed,
  agreement: Type.Optional(
    Type.Number({ description: "Of an ensemble: the share of its members whose best label is this one." }),
  ),
  members: Type.Optional(
    Type.Array(
      Type.Object({
        version: Version,
        label: Type.Union([Type.String(), Type.Null()], { description: "Its best one." }),
        scores: Scores,
      }),
      { description: "How each member votes." },
    ),
  ),
  usage: Usage,
});
export type InferReply = Static<typeof InferReply>;

export const InferReplies = Type.Object({
  results: Type.Array(Type.Union([InferReply, Type.Object({ error: ProblemDocument })]), {
    description: "In the order of `inputs`: an answer, or what is wrong with that input.",
  }),
});
export type InferReplies = Static<typeof InferReplies>;
