import { TrainRequest } from "../contract/train.ts";
import { ForewordError } from "../errors.ts";
import type { Resource } from "./dependencies.ts";
import { jobRoute } from "./submit.ts";
import { jobRequest } from "./train-request.ts";

export const train: Resource = (app, dependencies) => {
  const { registry, engine } = dependencies;
  jobRoute(
    app,
    dependencies,
    {
      kind: "train",
      tag: "train",
      summary: "Train a prefix or a soft prompt; the backbone and every word stay as they are",
      body: TrainRequest,
      refuse: refuseHard,
    },
    (task, body) => jobRequest(registry, engine, task, body),
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
