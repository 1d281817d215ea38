import { type Static, Type } from "typebox";
import { Dictionary, Id, LabelName, Timestamp } from "./common.ts";
import { Input } from "./infer.ts";

export const Example = Type.Union(
  [
    Type.Object({ input: Input, label: LabelName }, { additionalProperties: false }),
    Type.Object({ input: Input, output: Type.String() }, { additionalProperties: false }),
  ],
  { description: "An input with its label, or with the text that should answer it." },
);
export type Example = Static<typeof Example>;

export const Examples = Type.Array(Example, { minItems: 1, maxItems: 1_000_000 });

export const Validation = Type.Union(
  [
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 0.5,
      description: "A share of the examples, by label; by default 0.1 to train, 0.3 to search.",
    }),
    Id,
    Examples,
  ],
  { description: "What validates: a share of the examples, a data set, or examples." },
);
export type Validation = Static<typeof Validation>;

export const DatasetFormat = Type.Enum(["ndjson", "csv"]);
export type DatasetFormat = Static<typeof DatasetFormat>;

/** A data set as the registry keeps it; its rows are the blob that `sha256` names, as NDJSON of examples. */
export const Dataset = Type.Object({
  id: Id,
  rows: Type.Integer({ minimum: 0 }),
  labels: Type.Union([Dictionary(Type.Integer({ minimum: 0 })), Type.Null()], {
    description: "How many rows each label has; null where rows have outputs.",
  }),
  sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
  bytes: Type.Integer({ minimum: 0 }),
  created_at: Timestamp,
});
export type Dataset = Static<typeof Dataset>;
