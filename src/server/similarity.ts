/** How alike trained prompts are (Vu et al. 2022): a table of cosines for each kind. */
import { setImmediate as turn } from "node:timers/promises";
import { Type } from "typebox";
import { idForm } from "../contract/common.ts";
import type { PromptRecord } from "../contract/prompt.ts";
import { MOST_PROMPTS, type SimilarityGroup, SimilarityReport, TrainedKind } from "../contract/transfer.ts";
import { PrefixCache } from "../engine/prefix-cache.ts";
import { invalid } from "../errors.ts";
import { readPromptFile } from "../prompt/file.ts";
import { similarity as compare, type TaskEmbedding, taskEmbedding } from "../prompt/task-embedding.ts";
import type { Dependencies, Resource } from "./dependencies.ts";
import { noId } from "./problems.ts";
import { chosen, everyTask, hasKind, promptsOf } from "./trained.ts";
import { compatible } from "./views.ts";

/** Task embeddings that are kept: about a thousand prefixes of the default backbone. */
const CACHE_BYTES = 2 ** 26;
const kinds = ["soft", "prefix"] as const;

const Query = Type.Object({
  tasks: Type.Optional(Type.String({ minLength: 1, description: "Ids by comma; by default all tasks." })),
  kind: Type.Optional(TrainedKind),
  all: Type.Optional(
    Type.Boolean({
      description: "Every trained version; by default a task's active one, else its latest, of each kind.",
    }),
  ),
});
type Query = Type.Static<typeof Query>;

const isId = new RegExp(idForm.pattern);

export const similarity: Resource = (app, dependencies) => {
  const cache = new PrefixCache(CACHE_BYTES);
  app.get(
    "/prompts/similarity",
    {
      schema: {
        tags: ["transfer"],
        summary: "How alike the trained prompts of this backbone are",
        querystring: Query,
        response: { 200: SimilarityReport },
      },
    },
    async ({ query }): Promise<SimilarityReport> => {
      const { engine } = dependencies;
      const found = await candidates(dependencies, query);
      const fitting = (kind: TrainedKind) => found[kind].filter(record => compatible(record, engine));
      const wanted = kinds.filter(kind => query.kind === undefined || query.kind === kind);
      for (const kind of wanted) checkCount(kind, fitting(kind).length);
      const groups: SimilarityGroup[] = [];
      for (const kind of wanted) groups.push(await group(dependencies, cache, kind, fitting(kind)));
      const foreign = new Set(
        wanted.flatMap(kind => found[kind]).filter(record => !compatible(record, engine)),
      );
      return {
        backbone: engine.backbone().fingerprint,
        groups,
        left_out: [...foreign].map(({ task, version, backbone }) => ({
          task,
          version,
          backbone: backbone.name,
        })),
      };
    },
  );
};

/** What may be compared; of a task that has nothing of this backbone, a prompt of another one, to be told of. */
async function candidates(
  { registry, engine }: Pick<Dependencies, "registry" | "engine">,
  { tasks: ids, all = false }: Query,
): Promise<Record<TrainedKind, PromptRecord[]>> {
  const tasks =
    ids === undefined
      ? await everyTask(registry)
      : await Promise.all(idsOf(ids).map(id => registry.getTask(id)));
  const found: Record<TrainedKind, PromptRecord[]> = { soft: [], prefix: [] };
  for (const task of tasks) {
    const prompts = await promptsOf(registry, task.id);
    const own = prompts.filter(prompt => compatible(prompt, engine));
    for (const kind of kinds) {
      if (all) found[kind].push(...prompts.filter(prompt => hasKind(prompt, kind)));
      else {
        const one = chosen(task, own, kind) ?? chosen(task, prompts, kind);
        if (one) found[kind].push(one);
      }
    }
  }
  return found;
}

function idsOf(list: string): string[] {
  const ids = [...new Set(list.split(","))];
  const odd = ids.find(id => !isId.test(id));
  if (odd === undefined) return ids;
  throw invalid("tasks", `${JSON.stringify(odd)} ${noId}`);
}

function checkCount(kind: TrainedKind, count: number): void {
  if (count <= MOST_PROMPTS) return;
  throw invalid(
    "tasks",
    `they have ${count} prompts of kind ${kind}, at most ${MOST_PROMPTS} are compared. Name fewer tasks, or leave all out.`,
    { limit: MOST_PROMPTS },
  );
}

/** A prompt's parameters, or a row of the table, at a time: others are answered in between. */
async function group(
  { registry }: Pick<Dependencies, "registry">,
  cache: PrefixCache,
  kind: TrainedKind,
  records: readonly PromptRecord[],
): Promise<SimilarityGroup> {
  const embeddings: TaskEmbedding[] = [];
  for (const { parameters } of records) {
    const { value, release } = await cache.acquire(`${kind} ${parameters}`, async () => {
      await turn();
      return taskEmbedding(readPromptFile(await registry.getBlob(parameters!)), kind);
    });
    embeddings.push(value);
    release();
  }
  const average_tokens = embeddings.map(() => new Array<number>(embeddings.length));
  const token_pairs = embeddings.map(() => new Array<number>(embeddings.length));
  for (const [row, mine] of embeddings.entries()) {
    await turn();
    for (let column = 0; column <= row; column++) {
      const found = compare(mine, embeddings[column]!);
      average_tokens[row]![column] = average_tokens[column]![row] = found.average_tokens;
      token_pairs[row]![column] = token_pairs[column]![row] = found.token_pairs;
    }
  }
  return {
    kind,
    prompts: records.map(({ task, version }, index) => ({
      task,
      version,
      positions: embeddings[index]!.positions,
    })),
    average_tokens,
    token_pairs,
  };
}
