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
