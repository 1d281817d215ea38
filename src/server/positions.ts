/** What a prompt's positions mean: the words near virtual tokens, and the attention that positions get. */
import { VersionParams } from "../contract/common.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import { AttentionReport, AttentionRequest, NearestQuery, NearestReport } from "../contract/transfer.ts";
import type { PromptAttention } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { contentOf } from "../jobs/contents.ts";
import type { Resource } from "./dependencies.ts";
import { checkCompatible } from "./views.ts";

export const positions: Resource = (app, { registry, engine }) => {
  app.get(
    "/tasks/:id/prompts/:version/nearest",
    {
      schema: {
        tags: ["transfer"],
        summary: "The words nearest to each virtual token of a soft prompt",
        params: VersionParams,
        querystring: NearestQuery,
        response: { 200: NearestReport },
      },
    },
    async ({ params, query }): Promise<NearestReport> => {
      const record = await registry.getPrompt(params.id, params.version);
      checkVirtual(record);
      checkCompatible(record, engine);
      const { task, version, kind } = record;
      const content = await contentOf(registry, task, version);
      return { task, version, kind, ...(await engine.nearest(content, query.count ?? 5)) };
    },
  );

  app.post(
    "/tasks/:id/prompts/:version/attention",
    {
      schema: {
        tags: ["transfer"],
        summary: "The attention that a prompt's positions get from inputs, by layer",
        params: VersionParams,
        body: AttentionRequest,
        response: { 200: AttentionReport },
      },
    },
    async ({ params, body }): Promise<AttentionReport> => {
      const record = await registry.getPrompt(params.id, params.version);
      checkCompatible(record, engine);
      const { task, version, kind } = record;
      const content = await contentOf(registry, task, version);
      const found = await engine.attention(content, body.inputs);
      return { task, version, kind, inputs: body.inputs.length, ...reported(found) };
    },
  );
};

function checkVirtual({ task, version, kind }: PromptRecord): void {
  if (kind === "soft" || kind === "mixed") return;
  const why =
    kind === "hard"
      ? `is a hard prompt: its positions are words already. GET /tasks/${task}/prompts/${version} shows them`
      : "is a prefix: keys and values of every layer, which are no embeddings, so no word is near them";
  throw new ForewordError(
    "validation",
    `Version ${version} of ${task} ${why}. To see what its positions do, POST inputs to /tasks/${task}/prompts/${version}/attention.`,
    { field: "version", kind },
  );
}

function reported({ positions, tokens, ofTokens, ofAnswer }: PromptAttention) {
  const overLayers = (layers: readonly Float64Array[], position: number) =>
    layers.reduce((sum, layer) => sum + layer[position]!, 0) / layers.length;
  return {
    tokens,
    positions: positions.map((each, position) => ({
      position,
      ...each,
      attention: overLayers(ofTokens, position),
      answer: overLayers(ofAnswer, position),
    })),
    layers: ofTokens.map((attention, layer) => ({
      layer,
      attention: [...attention],
      answer: [...ofAnswer[layer]!],
    })),
  };
}
