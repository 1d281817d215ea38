/** What the next token may be. */
export interface Constraint {
  /** Sets the logits of tokens that may not follow to -Infinity. */
  mask(logits: Float32Array): void;
  /** Takes note of the token that was chosen. */
  accept(token: number): void;
  /** Resolves, and never rejects, when `mask` can answer after `accept`; left out where it can at once. */
  settled?(): Promise<void>;
  /** Tokens that bring what was begun to an end that the constraint takes, whatever the model would write. */
  close?(): Promise<number[]>;
  dispose(): void;
}

/** One of several texts, then EOS. */
export function choiceConstraint(sequences: readonly (readonly number[])[], eos: number): Constraint {
  let open = sequences.map(sequence => [...sequence, eos]);
  let depth = 0;
  return {
    mask(logits) {
      const allowed = new Map(open.map(sequence => [sequence[depth]!, logits[sequence[depth]!]!]));
      logits.fill(-Infinity);
      for (const [token, logit] of allowed) logits[token] = logit;
    },
    accept(token) {
      open = open.filter(sequence => sequence[depth] === token);
      depth++;
    },
    dispose() {},
  };
}

/** Spells the choice that its tokens are, as the caller wrote it: a vocabulary may normalise what it reads. */
export function choiceText(choices: readonly string[], sequences: readonly (readonly number[])[]) {
  let open = [...choices.keys()];
  let depth = 0;
  let shown = 0;
  const show = (text: string): string => {
    const fresh = text.slice(shown);
    shown += fresh.length;
    return fresh;
  };
  return {
    /** What all that may still be chosen go on with. */
    push(token: number): string {
      open = open.filter(choice => sequences[choice]![depth] === token);
      depth++;
      const texts = open.map(choice => choices[choice]!);
      const [first = ""] = texts;
      let end = first.length;
      for (const text of texts) {
        let at = shown;
        while (at < end && text[at] === first[at]) at++;
        end = at;
      }
      // Half a surrogate pair is none.
      return show(first.slice(0, end).replace(/[\uD800-\uDBFF]$/, ""));
    },
    end(): string {
      const chosen = open.find(choice => sequences[choice]!.length === depth);
      return chosen === undefined ? "" : show(choices[chosen]!);
    },
  };
}
