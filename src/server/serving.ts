/**
 * What inference needs of a task, kept in memory so that a hot task costs no disk work; a change in the registry drops
 * the entry. Also the engine's `PromptSource`: it knows which content stands behind a digest.
 */
import type { PromptRecord } from "../contract/prompt.ts";
import type { Task } from "../contract/task.ts";
import type { PromptContent, PromptSource } from "../engine/engine.ts";
import { ForewordError } from "../errors.ts";
import { promptDigest } from "../prompt/file.ts";
import { compileTemplate } from "../prompt/template.ts";
import { type VerbalizedLabel, verbalize } from "../prompt/verbalizer.ts";
import type { Notice, Registry } from "../registry/registry.ts";

export interface ServedPrompt {
  record: PromptRecord;
  digest: string;
  /** Empty for generation. */
  labels: VerbalizedLabel[];
}

/** The longest request (`timeout_ms`). A content is kept this long after its prompt is dropped. */
const LIFE_MS = 3_600_000;

export class Serving implements PromptSource {
  readonly #registry: Registry;
  readonly #tasks = new Map<string, Promise<Task>>();
  readonly #prompts = new Map<string, Promise<ServedPrompt>>();
  /** Contents by digest: the template, and the blob that holds the parameters. */
  readonly #contents = new Map<string, { template: string; parameters: string | null }>();
  /** Contents that no prompt here has had since the last sweep. */
  readonly #idle = new Set<string>();
  readonly #sweeping: NodeJS.Timeout;
  readonly #unwatch: () => void;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#unwatch = registry.watch(notice => this.#drop(notice));
    this.#sweeping = setInterval(() => void this.#sweep(), LIFE_MS).unref();
  }

  task(id: string): Promise<Task> {
    return kept(this.#tasks, id, () => this.#registry.getTask(id));
  }

  prompt(task: Task, version: number): Promise<ServedPrompt> {
    return kept(this.#prompts, promptKey(task, version), async () => {
      const record = await this.#registry.getPrompt(task.id, version);
      const { template, kind, parameters } = record;
      const digest = promptDigest(
        kind,
        template,
        parameters ? await this.#registry.getBlob(parameters) : null,
      );
      this.#contents.set(digest, { template, parameters });
      const labels = task.labels ? verbalize(task.labels, compileTemplate(template), record.verbalizers) : [];
      return { record, digest, labels };
    });
  }

  async load(digest: string): Promise<PromptContent> {
    const content = this.#contents.get(digest);
    if (!content) throw new ForewordError("prompt_not_found", "The prompt is not there any more. Ask again.");
    const { template, parameters } = content;
    return { template, parameters: parameters ? await this.#registry.getBlob(parameters) : null };
  }

  close(): void {
    clearInterval(this.#sweeping);
    this.#unwatch();
  }

  /** Just what a change touches: versions never change. */
  #drop(notice: Notice): void {
    const { kind } = notice;
    if (kind === "reload") {
      this.#tasks.clear();
      this.#prompts.clear();
    } else if (kind === "task") {
      this.#tasks.delete(notice.id);
      this.#forget(`${notice.id}@`);
    } else if (kind === "active") this.#tasks.delete(notice.id);
    else if (kind === "prompt") {
      this.#tasks.delete(notice.id);
      this.#forget(`${notice.id}@${notice.version}@`);
    }
  }

  async #sweep(): Promise<void> {
    const served = await Promise.allSettled(this.#prompts.values());
    const used = new Set(served.map(each => (each.status === "fulfilled" ? each.value.digest : null)));
    for (const digest of this.#contents.keys()) {
      if (used.has(digest)) this.#idle.delete(digest);
      else if (this.#idle.delete(digest)) this.#contents.delete(digest);
      else this.#idle.add(digest);
    }
  }

  #forget(prefix: string): void {
    for (const key of this.#prompts.keys()) if (key.startsWith(prefix)) this.#prompts.delete(key);
  }
}

/** A prompt's labels come from its task: whoever still holds an older task must not leave its labels to others. */
const promptKey = ({ id, created_at: born, revision }: Task, version: number): string =>
  `${id}@${version}@${born}@${revision}`;

/** The value under `key`, made once; a failure is not kept. */
function kept<Value>(
  map: Map<string, Promise<Value>>,
  key: string,
  make: () => Promise<Value>,
): Promise<Value> {
  const known = map.get(key);
  if (known) return known;
  const made = make();
  map.set(key, made);
  made.catch(() => map.get(key) === made && map.delete(key));
  return made;
}
