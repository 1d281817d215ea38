/** Instructions that the backbone writes itself from examples (APE, Zhou et al. 2023, forward generation). */
import type { Example } from "../../contract/dataset.ts";
import { type Core, patient } from "../../engine/core.ts";
import { orElse } from "../../errors.ts";
import type { TextCodec } from "../../prompt/codec.ts";
import type { Shelf } from "../shelf.ts";
import {
  type Candidate,
  chatOf,
  filled,
  headingFor,
  isPlain,
  isPlainText,
  lines,
  type Subject,
  said,
} from "./candidates.ts";

/** Pairs that one instruction is written from. */
const PAIRS = 6;
const MAX_TOKENS = 48;
const TEMPERATURE = 0.8;
/** An instruction has at least so many words. */
const WORDS = 3;

export async function written(
  { core, shelf }: { core: Core; shelf: Shelf },
  subject: Subject,
  count: number,
  seed: number,
): Promise<Candidate[]> {
  const usable = subject.shown.filter(example => isPlain(example, subject.task, subject.codec));
  if (count === 0 || usable.length === 0) return [];
  const texts = await Promise.all(
    Array.from({ length: count }, (_, index) => {
      const from = (index * PAIRS) % usable.length;
      const pairs = [...usable.slice(from), ...usable.slice(0, from)].slice(0, PAIRS);
      return fromPairs(pairs, few => complete(core, shelf, question(subject, few), seed + index));
    }),
  );
  const instructions = [
    ...new Set(texts.map(text => text && cleaned(text, subject.codec)).filter(text => text !== null)),
  ];
  const asked = lines(subject.fields);
  const heading = headingFor(subject.task.type);
  return instructions.map((text, index) => ({
    name: `written ${index + 1}`,
    source: "written",
    template: `${text}\n\n${asked}\n${heading}:`,
  }));
}

/** Writes from as many of the pairs as fit into the context; null if not even one does. */
async function fromPairs(
  pairs: readonly Example[],
  write: (pairs: readonly Example[]) => Promise<string>,
): Promise<string | null> {
  for (let few = pairs; few.length > 0; few = few.slice(0, few.length >> 1)) {
    const text = await write(few).catch(orElse(null, "input_too_long"));
    if (text !== null) return text;
  }
  return null;
}

function question({ task, fields, codec }: Subject, pairs: readonly Example[]): string {
  const shown = pairs
    .map(example => `${filled(fields, example)}\nAnswer: ${said(example, task)}`)
    .join("\n\n");
  const asked = `Somebody was given an instruction, and answered these:\n\n${shown}\n\nWrite the instruction, in one sentence.`;
  return `${chatOf(codec, asked) ?? `${asked}\n\nInstruction:`}{{ start }}`;
}

/** The end of the template is a field, since every template has one; it is filled with how an instruction begins. */
async function complete(core: Core, shelf: Shelf, template: string, seed: number): Promise<string> {
  const digest = shelf.put(core, { template, parameters: null });
  const start = ["Decide", "Read the", "Classify", "Write", "Given", "For each"][seed % 6]!;
  try {
    const { text } = await core.infer(
      {
        kind: "generate",
        prompt: digest,
        fields: start,
        maxTokens: MAX_TOKENS,
        temperature: TEMPERATURE,
        topP: 0.95,
        topK: 0,
        repetitionPenalty: 1.1,
        stop: ["\n"],
        seed,
        logprobs: null,
      },
      patient,
    );
    return `${start}${text}`;
  } finally {
    shelf.drop(core, digest);
  }
}

/** One line that can stand in a template, or null. */
function cleaned(text: string, codec: TextCodec): string | null {
  const line = text.replace(/\s+/g, " ").trim();
  const sentence = /^.*?[.!?](?=\s|$)/.exec(line)?.[0] ?? line;
  if (sentence.split(" ").length < WORDS || !isPlainText(sentence, codec)) return null;
  return sentence;
}
