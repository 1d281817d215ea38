/** Characters by which a text of JSON nests, and those that begin and end strings, where the others mean nothing. */
export const SIGNS = /["\\{}[\],]/;

/** Where a text of JSON stands, token by token. */
export class Nesting {
  /** The texts of those tokens that have one of the signs. */
  readonly #texts: ReadonlyMap<number, string>;
  /** Brackets, the innermost last. */
  readonly #open: string[] = [];
  #escaped = false;
  inString = false;

  constructor(texts: ReadonlyMap<number, string>) {
    this.#texts = texts;
  }

  /** Objects and lists that it is in. */
  get depth(): number {
    return this.#open.length;
  }

  /** `ended` is told from which depth on all that was begun is over: an item of a list, or an object with all it has. */
  add(token: number, ended: (depth: number) => void): void {
    const text = this.#texts.get(token);
    if (text === undefined) this.#escaped = false;
    for (const sign of text ?? "") this.#addSign(sign, ended);
  }

  #addSign(sign: string, ended: (depth: number) => void): void {
    if (this.#escaped) this.#escaped = false;
    else if (sign === "\\") this.#escaped = true;
    else if (sign === '"') this.inString = !this.inString;
    else if (this.inString) return;
    else if (sign === "{" || sign === "[") this.#open.push(sign);
    else if (sign === "}" || sign === "]") {
      this.#open.pop();
      ended(this.depth + 1);
    } else if (sign === "," && this.#open.at(-1) === "[") ended(this.depth);
  }
}
