import { isDeepStrictEqual } from "node:util";
import multipart from "@fastify/multipart";
import { Type } from "typebox";
import { IdParams, Page, PageQuery, PromptRef, VersionParams } from "../contract/common.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import { type Task, Verbalizers } from "../contract/task.ts";
import { ForewordError, invalid } from "../errors.ts";
import { contentOf } from "../jobs/contents.ts";
import { readPromptFile, writePromptFile } from "../prompt/file.ts";
import { basesOf, restacked, type Stackable } from "../prompt/stack.ts";
import { withoutBlank } from "../prompt/verbalizer.ts";
import { hardPrompt, trainedPrompt } from "../registry/new-prompt.ts";
import type { NewPrompt } from "../registry/registry.ts";
import { copiedVerbalizers } from "./copies.ts";
import type { Resource } from "./dependencies.ts";
import { actor, ConditionalOnActive, expectedRevision, Repeatable } from "./headers.ts";
import { idempotent } from "./idempotency.ts";
import { adaptedPrompt, adapterOf, archive } from "./peft.ts";
import { readUpload, uploadContent } from "./peft-form.ts";
import { type Base, baseOn } from "./stack.ts";
import { checkVerbalizers } from "./verbalizers.ts";
import { checkCompatible, PromptView, promptView } from "./views.ts";

/** The media type of the project's own prompt file (contract, section 3). */
export const promptMediaType = "application/vnd.foreword.prompt+safetensors";

const stackedOn = {
  description: "A version of any task: what it puts before its first field stands before the new one.",
};
const NewPromptBody = Type.Union(
  [
    Type.Object(
      {
        kind: Type.Optional(Type.Enum(["hard"])),
        template: Type.String({ minLength: 1, description: "Words, with fields such as {{ input }}." }),
        name: Type.Optional(Type.String({ maxLength: 256 })),
        verbalizers: Type.Optional(Verbalizers),
        on: Type.Optional(Type.With(PromptRef, stackedOn)),
      },
      { additionalProperties: false },
    ),
    Type.Object(
      {
        from: Type.With(PromptRef, { description: "The version to copy." }),
        on: Type.Optional(Type.With(PromptRef, stackedOn)),
        name: Type.Optional(Type.String({ maxLength: 256 })),
      },
      { additionalProperties: false },
    ),
  ],
  { examples: [{ template: "Message: {{ input }}\nTeam:" }] },
);
type NewPromptBody = Type.Static<typeof NewPromptBody>;

const File = Type.Unknown({ description: "A file of safetensors." });
/** Read part by part (peft-form.ts); here for those who read the reference. */
const Form = Type.Unknown({
  properties: {
    "adapter_config.json": Type.Object({}),
    "adapter_model.safetensors": File,
    template: Type.Optional(Type.String()),
    task_index: Type.Optional(Type.Integer({ minimum: 0, description: "Of a multitask prompt." })),
  },
  required: ["adapter_config.json", "adapter_model.safetensors"],
});

export const prompts: Resource = (app, { registry, engine, config }) => {
  app.register(multipart);
  app.addContentTypeParser(promptMediaType, { parseAs: "buffer" }, (_request, body, done) =>
    done(null, body),
  );

  const make = async (body: unknown, to: Task): Promise<NewPrompt> => {
    if (Buffer.isBuffer(body)) return trainedPrompt(engine, registry, body);
    if (!body) throw noBody();
    const wanted = body as NewPromptBody;
    const base = wanted.on ? await baseOn(registry, engine, wanted.on) : null;
    if ("template" in wanted) {
      const { name = null, verbalizers } = wanted;
      const template = withoutBlank(wanted.template, verbalizers ? null : to.labels);
      const prompt = base
        ? await stacked({ template, parameters: null }, null, base)
        : await hardPrompt(engine, template, name);
      return { ...prompt, name, ...(verbalizers && { verbalizers }) };
    }
    const { from } = wanted;
    const record = await registry.getPrompt(from.task, from.version);
    const { task, version, created_at, verbalizers: _, ...copied } = record;
    const verbalizers = copiedVerbalizers(await registry.getTask(task), to, record);
    checkCompatible(record, engine);
    const content = await contentOf(registry, task, version);
    await engine.inspect(content);
    const prompt = base ? await stacked(content, copied.recipe, base) : copied;
    return {
      ...copied,
      ...prompt,
      ...(verbalizers && { verbalizers }),
      name: wanted.name ?? copied.name,
      parent: { task, version },
    };
  };

  const stacked = async (prompt: Stackable, recipe: unknown, { on, file }: Base): Promise<NewPrompt> => {
    const backbone = engine.backbone().fingerprint;
    const bytes = restacked(prompt, basesOf({ parameters: file }), { backbone, recipe });
    return { ...(await trainedPrompt(engine, registry, bytes)), on };
  };

  app.post(
    "/tasks/:id/prompts",
    {
      schema: {
        tags: ["prompts"],
        summary: "Add a prompt version: a hard prompt, a copy, a prompt file, or an adapter of PEFT",
        params: IdParams,
        headers: Type.Object({ ...Repeatable.properties, ...ConditionalOnActive.properties }),
        body: {
          content: {
            "application/json": { schema: NewPromptBody },
            [promptMediaType]: { schema: File },
            "multipart/form-data": { schema: Form },
          },
        },
        querystring: Type.Object({
          activate: Type.Optional(
            Type.Boolean({
              description: "Whether it answers at once. `unsure_below` stays; bias and temperature do not.",
            }),
          ),
        }),
        response: { 201: PromptView },
      },
    },
    async (request, reply) => {
      const upload = request.isMultipart() ? await readUpload(request, config.bodyLimit) : null;
      const answer = async (commit?: string) => {
        const task = await registry.getTask(request.params.id);
        const prompt = upload
          ? await adaptedPrompt({ engine, registry }, upload)
          : await make(request.body, task);
        if (upload || Buffer.isBuffer(request.body)) checkRecipe(prompt);
        await checkVerbalizers(engine, task, prompt);
        const record = await registry.addPrompt(task.id, prompt, {
          ...expectedRevision(request),
          ...(request.query.activate && { activate: { by: actor(config) } }),
          commit,
        });
        return {
          status: 201,
          headers: { Location: `/tasks/${task.id}/prompts/${record.version}` },
          body: await promptView(record, registry, engine),
        };
      };
      return idempotent(registry, request, reply, answer, upload ? uploadContent(upload) : request.body);
    },
  );

  app.get(
    "/tasks/:id/prompts",
    {
      schema: {
        tags: ["prompts"],
        summary: "List a task's prompt versions",
        params: IdParams,
        querystring: PageQuery,
        response: { 200: Page(PromptView) },
      },
    },
    async request => {
      const { items, next_cursor } = await registry.listPrompts(request.params.id, request.query);
      const shown: PromptView[] = [];
      // One after another: of an earlier version's record the parameters are read, which are many megabytes together.
      for (const record of items) shown.push(await promptView(record, registry, engine));
      return { items: shown, next_cursor };
    },
  );

  app.get(
    "/tasks/:id/prompts/:version",
    {
      schema: {
        tags: ["prompts"],
        summary: "One prompt version, or its file",
        params: VersionParams,
        description:
          "format=peft answers with a zip archive of adapter_config.json, adapter_model.safetensors and README.md.",
        querystring: Type.Object({
          format: Type.Optional(Type.Enum(["json", "safetensors", "peft"])),
          peft_type: Type.Optional(Type.Enum(["PREFIX_TUNING", "PROMPT_TUNING"])),
        }),
        response: {
          200: {
            description: "The version as `format` asks for it.",
            content: {
              "application/json": { schema: PromptView },
              [promptMediaType]: { schema: File },
              "application/zip": { schema: Type.Unknown() },
            },
          },
        },
      },
    },
    async (request, reply) => {
      const { format = "json", peft_type = "PREFIX_TUNING" } = request.query;
      const record = await registry.getPrompt(request.params.id, request.params.version);
      if (format === "json") return promptView(record, registry, engine);
      const name = `${record.task}-${record.version}`;
      if (format === "peft") {
        const files = await adapterOf({ engine, registry }, record, peft_type);
        return reply
          .type("application/zip")
          .header("Content-Disposition", `attachment; filename="${name}-peft.zip"`)
          .send(archive(files, record.created_at));
      }
      if (!record.parameters) {
        throw new ForewordError(
          "not_expressible",
          "A hard prompt has no parameters, so there is no file of them; its template is the whole prompt. Ask for JSON.",
        );
      }
      return reply
        .type(promptMediaType)
        .header("Content-Disposition", `attachment; filename="${name}.safetensors"`)
        .send(Buffer.from(saying(record, await registry.getBlob(record.parameters))));
    },
  );

  app.delete(
    "/tasks/:id/prompts/:version",
    {
      schema: {
        tags: ["prompts"],
        summary: "Delete a prompt version that is not active",
        params: VersionParams,
        headers: ConditionalOnActive,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      const { id, version } = request.params;
      await registry.deletePrompt(id, version, expectedRevision(request));
      return reply.code(204).send(null);
    },
  );
};

/** A version's file, with the texts that it says for labels: a copy may say others than what its parameters were kept for. */
function saying({ verbalizers }: Pick<PromptRecord, "verbalizers">, bytes: Uint8Array): Uint8Array {
  const { verbalizers: before, ...file } = readPromptFile(bytes);
  return isDeepStrictEqual(before, verbalizers)
    ? bytes
    : writePromptFile({ ...file, ...(verbalizers && { verbalizers }) }, "as small as is exact");
}

const noBody = () =>
  invalid(
    "body",
    'send {"kind": "hard", "template", "name"?, "verbalizers"?, "on"?}, or {"from": {"task", "version"}, "name"?, "on"?}, or a prompt file, or an adapter of PEFT as multipart/form-data; "on" is {"task", "version"}.',
  );

/** How large a file's recipe may be, as JSON, and how deep: the record and every list of versions hold it. */
const recipeLimits = { characters: 262_144, levels: 64 } as const;

/** Throws `bad_tensor`. */
function checkRecipe({ recipe }: Pick<NewPrompt, "recipe">): void {
  const refuse = (what: string, limit: number): never => {
    const detail = `The "recipe" ${what}; it may have ${limit}. Shorten it, or leave it out of the file's metadata.`;
    throw new ForewordError("bad_tensor", detail, { field: "recipe", limit });
  };
  const { characters, levels } = recipeLimits;
  if (isDeeper(recipe, levels)) refuse("has too many levels", levels);
  const { length } = JSON.stringify(recipe);
  if (length > characters) refuse(`has ${length} characters`, characters);
}

const isDeeper = (value: unknown, levels: number): boolean =>
  typeof value === "object" &&
  value !== null &&
  (levels === 0 || Object.values(value).some(each => isDeeper(each, levels - 1)));
