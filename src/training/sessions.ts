/** A session for each graph, loaded when it is first run; weights stay mapped. */
import type { CompiledBackbone } from "../compile/backbone.ts";
import type { Graph } from "../graph/graph.ts";
import type { LoadOptions, Runtime, RuntimeTensor, Session, Tensors } from "../runtime/runtime.ts";

export interface GraphSessionsOptions {
  runtime: Runtime;
  compiled: Pick<CompiledBackbone, "weights">;
  memory: NonNullable<LoadOptions["memory"]>;
  /** Awaited before every run. */
  pause?: () => Promise<void>;
}

export class GraphSessions {
  readonly #options: GraphSessionsOptions;
  readonly #sessions = new Map<Graph, Promise<Session>>();

  constructor(options: GraphSessionsOptions) {
    this.#options = options;
  }

  /** All outputs of the graph; of `feeds`, what it reads. */
  async run(graph: Graph, feeds: Tensors): Promise<Record<string, RuntimeTensor>> {
    const { runtime, compiled, memory, pause } = this.#options;
    await pause?.();
    const session =
      this.#sessions.get(graph) ?? runtime.load(graph, compiled.weights, { packed: false, memory });
    this.#sessions.set(graph, session);
    return (await session).run(
      feeds,
      graph.outputs.map(({ name }) => name),
    );
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await (await session).close();
  }
}
