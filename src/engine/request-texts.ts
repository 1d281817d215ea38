/** A request's texts in tokens: its choices, its targets, and the verbalizers of its task. */
import type { Tokenizer } from "../backbone/tokenizer.ts";
import { ForewordError } from "../errors.ts";
import type { LabelSequences } from "../prompt/trie.ts";
import { ByText } from "./by-text.ts";
import type { EngineRequest, GenerateRequest, LabelVerbalizers } from "./engine.ts";
import { requireShort } from "./fit.ts";
import { LabelCache, type Spelled } from "./label-cache.ts";

/** Of a request's choices, its targets, or a task's verbalizers, for each position of the context: encoding them holds everything up. */
const LISTED_CHARACTERS = 64;

/** That labels in tokens are kept in: hundreds of tasks of 77 labels. */
const LABEL_BYTES = 64 * 2 ** 20;

/** That choices and targets in tokens are kept in: a dozen of the longest for a context of 8,192. */
const LIST_BYTES = 64 * 2 ** 20;

type Encoded = readonly (readonly number[])[];

export class RequestTexts {
  readonly #tokenizer: Tokenizer;
  readonly #maxPositions: number;
  readonly #lists = new ByText<readonly string[], Encoded>(LIST_BYTES, encodedBytes);
  readonly #labels = new LabelCache(LABEL_BYTES);

  constructor(tokenizer: Tokenizer, maxPositions: number) {
    this.#tokenizer = tokenizer;
    this.#maxPositions = maxPositions;
  }

  /** That a request's choices, its targets, or a task's verbalizers may have together. */
  get listedCharacters(): number {
    return LISTED_CHARACTERS * this.#maxPositions;
  }

  readonly encode = (text: string): number[] => this.#tokenizer.encode(text);

  /** Throws `validation` for too many verbalizers, and as a trie does where two can't be told apart. */
  labels(labels: readonly LabelVerbalizers[]): Spelled {
    return this.#labels.take(labels, this.#sequences);
  }

  choices({ choices = [] }: Pick<GenerateRequest, "choices">): Encoded {
    return this.#encoded(choices, "choices");
  }

  targets({ targets = [], targetsEnd = false }: Pick<EngineRequest, "targets" | "targetsEnd">): Encoded {
    const ids = this.#encoded(targets, "targets", targetsEnd);
    return targetsEnd ? ids.map(tokens => [...tokens, this.#tokenizer.eosIds[0]!]) : ids;
  }

  /** Throws `validation` before any of too many are encoded. */
  readonly #sequences = (labels: readonly LabelVerbalizers[]): LabelSequences[] => {
    const most = this.listedCharacters;
    const characters = labels.flatMap(label => label.verbalizers).reduce((sum, text) => sum + text.length, 0);
    if (characters > most)
      throw new ForewordError(
        "validation",
        `labels: their verbalizers have ${characters} characters together, and may have ${most}. Give fewer labels, or fewer or shorter texts.`,
        { field: "labels" },
      );
    return labels.map(({ label, verbalizers }) => ({ label, sequences: verbalizers.map(this.encode) }));
  };

  /**
   * A list, encoded once for all inputs of a request. Throws `input_too_long` before all of a text is encoded that could
   * not fit, and `validation` for too many of them, or one without tokens.
   */
  #encoded(texts: readonly string[], field: "choices" | "targets", mayBeEmpty = false): Encoded {
    const refuse = (why: string): never => {
      throw new ForewordError("validation", `${field}: ${why}`, { field });
    };
    const most = this.listedCharacters;
    const found = this.#lists.take(texts, () => {
      let characters = 0;
      return texts.map(text => {
        requireShort(text, field, this.#maxPositions, this.encode);
        characters += text.length;
        if (characters > most)
          refuse(`together they may have ${most} characters. Send fewer, or shorter ones.`);
        return this.encode(text);
      });
    });
    const empty = mayBeEmpty ? -1 : found.findIndex(ids => ids.length === 0);
    if (empty >= 0) refuse(`the vocabulary has no token of ${JSON.stringify(texts[empty])}. Leave it out.`);
    return found;
  }
}

const encodedBytes = (lists: Encoded): number =>
  lists.reduce((bytes, { length }) => bytes + 64 + 8 * length, 0);
