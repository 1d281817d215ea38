import { architectures } from "../backbone/architectures/index.ts";
import { classificationLoss } from "../backbone/objective.ts";
import { checkName, resolveBackbone } from "../backbone/pull.ts";
import { openBackbone } from "../backbone/source.ts";
import type { Config } from "../config.ts";
import { ForewordError } from "../errors.ts";
import { graphData, printGraph } from "../graph/print.ts";
import { trainingGraph } from "../training/graph.ts";

/** The configured backbone's graph of one step, or with its gradient, as a text. */
export async function backboneGraph(
  { backbone, data }: Config,
  method: "prefix" | "soft" | undefined,
  json: boolean,
): Promise<string> {
  const path = await resolveBackbone(backbone, { data });
  if (!path) {
    checkName(backbone);
    throw new ForewordError(
      "backbone_unavailable",
      `${backbone} is not here yet. Run foreword pull ${backbone} first.`,
    );
  }
  const source = await openBackbone(path);
  const step = architectures[source.config.architecture](source.config);
  const printed = method ? trainingGraph(classificationLoss(step), method) : step;
  await source.close();
  return json ? `${JSON.stringify(graphData(printed))}\n` : printGraph(printed);
}
