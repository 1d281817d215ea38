import type { TextCodec } from "../../src/prompt/codec.ts";

const encode = (text: string) => [...text].map(char => char.codePointAt(0)!);

/** A token a character; EOS is 0. */
export const characters: TextCodec & { eosIds: number[] } = {
  bosId: 1,
  bosText: "\u0001",
  eosIds: [0],
  encode,
  encodeWithSpecials: encode,
};
