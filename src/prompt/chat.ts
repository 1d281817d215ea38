import { ForewordError } from "../errors.ts";
import type { ChatMessage, TextCodec } from "./codec.ts";
import { chatField } from "./fields.ts";

/** A run of a rendered chat: the chat template's own words, or a caller's. */
export interface ChatRun {
  ids: number[];
  fromCaller: boolean;
}

/** White space that no chat template writes, put around each content: if it is gone afterwards, the template trims. */
const PROBE = "\u2003";

/**
 * The chat template is rendered around stand-ins, so that only its own words can become special tokens; the contents
 * are tokenised as plain text, with the white space before them, as a template's fields are. A chat template may
 * repeat, move or drop a message, and trim its content. `first`: nothing was said before it.
 */
export function layoutChat(
  codec: TextCodec,
  messages: readonly ChatMessage[],
  { first = false } = {},
): ChatRun[] {
  if (!codec.renderChat) {
    throw new ForewordError(
      "validation",
      `The backbone has no chat template, so field "${chatField}" cannot be filled. Use a template with text fields.`,
    );
  }
  // Private-use characters with a number between: roles are checked to be letters, so nothing else can spell it.
  const standIns = messages.map(({ role }, index) => ({
    role,
    content: `${PROBE}\u{F0000}${index}\u{F0001}${PROBE}`,
  }));
  const rendered = codec.renderChat(standIns, { addGenerationPrompt: true });
  const [beginning = "", ...parts] = rendered.split(/(\u2003?)\u{F0000}(\d+)\u{F0001}(\u2003?)/u);
  const runs: ChatRun[] = [];
  const add = (ids: number[], fromCaller: boolean) => {
    if (ids.length > 0) runs.push({ ids, fromCaller });
  };
  const begins = () => first && runs.length === 0;
  const addWords = (text: string) => add(codec.encodeWithSpecials(text, { first: begins() }), false);
  let words = beginning;
  for (let at = 0; at < parts.length; at += 4) {
    const [before, index, behind, next] = parts.slice(at, at + 4) as [string, string, string, string];
    const { content } = messages[Number(index)]!;
    const start = before === "" ? content.trimStart() : content;
    const kept = behind === "" ? start.trimEnd() : start;
    const text = words.trimEnd();
    const lead = words.slice(text.length);
    const ids = codec.encode(lead + kept, { first: begins() && text === "" });
    // A content without any known character leaves nothing but the chat template's own words.
    if (ids.length <= lead.length && codec.encode(kept).length === 0) {
      words += next;
      continue;
    }
    addWords(text);
    add(ids, true);
    words = next;
  }
  addWords(words);
  // The prefix already starts with it.
  const [opening] = runs;
  if (opening && codec.bosId !== null && opening.ids[0] === codec.bosId) opening.ids.shift();
  return runs.filter(run => run.ids.length > 0);
}
