/** A step graph that returns the keys and values of some rows alone. */
import { GraphBuilder } from "../graph/builder.ts";
import type { Graph } from "../graph/graph.ts";

/** Names of a layer's outputs, float32 [kept, kvHeads, new, headDim]. */
export const keptOf = (layer: number) => ({ key: `kept_key.${layer}`, value: `kept_value.${layer}` });

/**
 * With the input `kept`, int64 [kept]: the rows whose keys and values are wanted. Of the others they live no longer than
 * their layer: an output would stay until the run ends, and be copied.
 */
export function keepingGraph(step: Graph, layers: number): Graph {
  const g = GraphBuilder.from(step);
  const rows = g.input("kept", "int64", ["kept"]);
  const outputs = new Map(step.outputs.map(value => [value.name, value]));
  const kept = Array.from({ length: layers }, (_, layer) =>
    (["key", "value"] as const).map(which => {
      const all = outputs.get(`${which}.${layer}`)!;
      outputs.delete(all.name);
      return [keptOf(layer)[which], g.op("Gather", [all, rows], { axis: 0 })] as const;
    }),
  );
  return g.finish(Object.fromEntries([...outputs, ...kept.flat()]));
}
