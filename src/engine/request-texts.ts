/** A request's texts in tokens: its choices, its targets, and the verbalizers of its task. */
import type { Tokenizer } from "../backbone/tokenizer.ts";
import { invalid } from "../errors.ts";
import type { LabelSequences } from "../prompt/trie.ts";
import type { VerbalizedLabel } from "../prompt/verbalizer.ts";
import { ByText } from "./by-text.ts";
import type { EngineRequest, GenerateRequest } from "./engine.ts";
import { requireShort } from "./fit.ts";
import { LabelCache, type Spelled } from "./label-cache.ts";

/** Characters of a list of texts, for each position of the context: all else waits while they are encoded. */
const LISTED_CHARACTERS = 64;

/** Memory for labels in tokens: enough for hundreds of tasks with 77 labels. */
const LABEL_BYTES = 64 * 2 ** 20;

/** Memory for choices and targets in tokens: a dozen of the longest lists at a context of 8,192. */
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

  /** The most characters that a request's choices, its targets, or a task's verbalizers may have together. */
  get listedCharacters(): number {
    return LISTED_CHARACTERS * this.#maxPositions;
  }

  readonly encode = (text: string): number[] => this.#tokenizer.encode(text);

  /** Throws `validation` for too many verbalizers, and as a trie does where two can't be told apart. */
  labels(labels: readonly VerbalizedLabel[]): Spelled {
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
  readonly #sequences = (labels: readonly VerbalizedLabel[]): LabelSequences[] => {
    const most = this.listedCharacters;
    const characters = labels.flatMap(label => label.verbalizers).reduce((sum, text) => sum + text.length, 0);
    if (characters > most)
      throw invalid(
        "labels",
        `their verbalizers have ${characters} characters together, and may have ${most}. Give fewer labels, or fewer or shorter texts.`,
      );
    return labels.map(({ label, verbalizers }) => ({ label, sequences: verbalizers.map(this.encode) }));
  };

  /**
   * A list, encoded once for all inputs of a request. Throws `input_too_long` before all of a text is encoded that could
   * not fit, and `validation` for too many of them, or one without tokens.
   */
  #encoded(texts: readonly string[], field: "choices" | "targets", mayBeEmpty = false): Encoded {
    const refuse = (why: string): never => {
      throw invalid(field, why);
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
