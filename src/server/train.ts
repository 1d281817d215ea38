import { IdParams } from "../contract/common.ts";
import { Job } from "../contract/job.ts";
import { TrainRequest } from "../contract/train.ts";
import { ForewordError } from "../errors.ts";
import type { Resource } from "./dependencies.ts";
import { Repeatable } from "./headers.ts";
import { submitJob } from "./submit.ts";
import { jobRequest } from "./train-request.ts";

export const train: Resource = (app, dependencies) => {
  const { registry, engine } = dependencies;
  app.post(
    "/tasks/:id/train",
    {
      schema: {
        tags: ["train"],
        summary: "Train a prefix or a soft prompt; the backbone and every word stay as they are",
        params: IdParams,
        headers: Repeatable,
        body: TrainRequest,
        response: { 202: Job },
      },
      preValidation: async request => refuseHard(request.body),
    },
    (request, reply) =>
      submitJob(dependencies, request, reply, "train", task =>
        jobRequest(registry, engine, task, request.body),
      ),
  );
};

function refuseHard(body: unknown): void {
  if ((body as { method?: unknown } | null)?.method !== "hard") return;
  throw new ForewordError(
    "hard_prompt_not_trainable",
    'A hard prompt is text: its words never change, so there is nothing to train. Use method "prefix" or "soft", which can start from its words.',
    { field: "method" },
  );
}
