/** Prompts that answer examples, many at a time, by the engine that serves. */
import type { Task, Verbalizers } from "../../contract/task.ts";
import type { Core } from "../../engine/core.ts";
import { ForewordError } from "../../errors.ts";
import { compileTemplate } from "../../prompt/template.ts";
import type { ActivePrompts } from "../job.ts";
import type { Shelf } from "../shelf.ts";

/** Examples that are under way at once. */
const AT_ONCE = 64;

export interface Judging extends ActivePrompts {
  core: Core;
  shelf: Shelf;
  task: Pick<Task, "labels">;
  /** Called before each example. */
  tell?: () => void;
  /** What the item at an index is called where it can't be answered. */
  nameOf?: (index: number) => string;
}

interface Member {
  digest: string;
  template: ReturnType<typeof compileTemplate>;
  verbalizers: Verbalizers | undefined;
}

/** Puts the prompts where the engine finds them, for as long as `work` takes. */
export async function onShelf<Result>(
  { core, shelf, prompts }: Judging,
  work: (members: readonly Member[]) => Promise<Result>,
): Promise<Result> {
  const members = prompts.map(content => ({
    digest: shelf.put(core, content),
    template: compileTemplate(content.template),
    verbalizers: content.verbalizers,
  }));
  try {
    return await work(members);
  } finally {
    for (const { digest } of members) shelf.drop(core, digest);
  }
}

/** An example can't be sent with "truncate", which is what serving advises. */
function toldHere({ code, message, fields }: ForewordError): string {
  if (code !== "input_too_long" || fields.tokens === undefined) return message;
  return `The input has ${fields.tokens} tokens or more, and at most ${fields.limit} fit. Shorten it, or leave it out.`;
}

/** `AT_ONCE` items are always under way, so that no run has a few late rows alone. */
export async function sideBySide<Item, Result>(
  { tell, nameOf }: Judging,
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const queue = items.entries();
  let failed = false;
  const worker = async () => {
    for (const [index, item] of queue) {
      if (failed) return;
      try {
        tell?.();
        results[index] = await work(item);
      } catch (error) {
        failed = true;
        if (!nameOf || !(error instanceof ForewordError)) throw error;
        throw ForewordError.fromProblem({
          ...error.toProblem(),
          detail: `${nameOf(index)}: ${toldHere(error)}`,
        });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}
