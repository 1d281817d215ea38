import { type Static, Type } from "typebox";
import { Id, Version } from "./common.ts";

export const RetrainRequest = Type.Object(
  {
    tasks: Type.Optional(
      Type.Array(Id, { minItems: 1, maxItems: 1000, description: "By default every task there is." }),
    ),
    activate: Type.Optional(
      Type.Boolean({
        description:
          "Whether what is trained answers as soon as it is there; by default it does, since what is active can't.",
      }),
    ),
    dry_run: Type.Optional(Type.Boolean({ description: "Tells what would be done, and does nothing." })),
  },
  { additionalProperties: false, examples: [{ dry_run: true }] },
);
export type RetrainRequest = Static<typeof RetrainRequest>;

/** Why a task is not trained again. */
export const RetrainReason = Type.Enum([
  "works",
  "nothing_active",
  "under_way",
  "no_recipe",
  "data_gone",
  "base_gone",
  "teacher_gone",
  "refused",
]);
export type RetrainReason = Static<typeof RetrainReason>;

export const RetrainReply = Type.Object({
  backbone: Type.Object({ name: Type.String(), fingerprint: Type.String() }),
  dry_run: Type.Boolean(),
  jobs: Type.Array(
    Type.Object({
      task: Id,
      versions: Type.Array(Version, { description: "Those whose recipe is followed." }),
      job: Type.Union([Id, Type.Null()], { description: "Null in a dry run." }),
      activates: Type.Boolean(),
      changed: Type.Array(Type.String(), {
        description:
          "Settings that could not stay: init, a start that belongs to the other backbone, and length where it was the start's.",
      }),
    }),
  ),
  skipped: Type.Array(Type.Object({ task: Id, reason: RetrainReason, detail: Type.String() })),
});
export type RetrainReply = Static<typeof RetrainReply>;
