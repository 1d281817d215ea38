import type { Core } from "../engine/core.ts";
import type { PromptContent, PromptSource } from "../engine/engine.ts";

/** Prompts given by hand, as the engine asks for them. */
export class Shelf implements PromptSource {
  readonly #contents = new Map<string, PromptContent>();
  readonly #uses = new Map<string, number>();

  /** A prompt that is put twice stays until it is dropped twice. */
  put(core: Core, content: PromptContent): string {
    const { digest } = core.inspect(content);
    this.#contents.set(digest, content);
    this.#uses.set(digest, (this.#uses.get(digest) ?? 0) + 1);
    return digest;
  }

  drop(core: Core, digest: string): void {
    const left = this.#uses.get(digest)! - 1;
    this.#uses.set(digest, left);
    if (left > 0) return;
    core.forget(digest);
    this.#contents.delete(digest);
    this.#uses.delete(digest);
  }

  async load(digest: string): Promise<PromptContent> {
    return this.#contents.get(digest)!;
  }
}
