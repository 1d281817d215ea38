import { type Static, type TSchema, type TSchemaOptions, Type } from "typebox";

/** An object with any keys. TypeBox's own leaves values unchecked whose key has a line break: its pattern is `^.*$`. */
export const Dictionary = <Value extends TSchema>(value: Value, options: TSchemaOptions = {}) =>
  Type.Unsafe<Record<string, Static<Value>>>(Type.Object({}, { ...options, additionalProperties: value }));

/** Ids of tasks, data sets and jobs. */
export const idForm = {
  pattern: "^[a-z0-9][a-z0-9._-]{0,63}$",
  description: "Lower-case letters, digits, '.', '_' and '-'; at most 64; starts with a letter or digit.",
};
export const Id = Type.String(idForm);

export const Version = Type.Integer({
  minimum: 1,
  description: "A prompt version: 1, 2, 3, … within its task.",
});

/** Parameters of a path. */
export const IdParams = Type.Object({ id: Id });
export const VersionParams = Type.Object({ id: Id, version: Version });

/** One version of a task's prompts. */
export const PromptRef = Type.Object({ task: Id, version: Version }, { additionalProperties: false });
export type PromptRef = Static<typeof PromptRef>;

export const LONGEST_LABEL = 256;
export const LabelName = Type.String({ minLength: 1, maxLength: LONGEST_LABEL });

export const Timestamp = Type.String({ format: "date-time", description: "ISO 8601, UTC." });

export const Page = <Item extends TSchema>(item: Item) =>
  Type.Object({
    items: Type.Array(item),
    next_cursor: Type.Union([Type.String(), Type.Null()], {
      description: "The next page's `cursor`; null where this page is the last.",
    }),
  });

export const PageQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 50 })),
  cursor: Type.Optional(Type.String({ description: "`next_cursor` of the page before." })),
});
export type PageQuery = Static<typeof PageQuery>;

export const ProblemDocument = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: "What is wrong, and what to do." }),
    code: Type.String({ description: "Stable; programs decide by it." }),
    instance: Type.Optional(Type.String({ description: "The path that was asked for." })),
  },
  { additionalProperties: true, description: "RFC 9457 problem details." },
);
