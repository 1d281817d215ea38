import { ForewordError } from "../errors.ts";
import type { ChatMessage, TextCodec } from "./codec.ts";
import { chatField } from "./fields.ts";

/** A run of a rendered chat: the chat template's own words, or a caller's. */
export interface ChatRun {
  ids: number[];
  fromCaller: boolean;
}

/**
 * The chat template is rendered around stand-ins, so that only its own words can become special tokens; the contents
 * are tokenised as plain text. A template may repeat, move or drop a message.
 */
export function layoutChat(codec: TextCodec, messages: readonly ChatMessage[]): ChatRun[] {
  if (!codec.renderChat) {
    throw new ForewordError(
      "validation",
      `The backbone has no chat template, so field "${chatField}" cannot be filled. Use a template with text fields.`,
    );
  }
  // Private-use characters with a number between: roles are checked to be letters, so nothing else can spell it.
  const standIns = messages.map(({ role }, index) => ({ role, content: `\u{F0000}${index}\u{F0001}` }));
  const rendered = codec.renderChat(standIns, { addGenerationPrompt: true });
  const runs = rendered
    .split(/\u{F0000}(\d+)\u{F0001}/u)
    .map(
      (part, at): ChatRun =>
        at % 2 === 0
          ? { ids: codec.encodeWithSpecials(part, { first: at === 0 }), fromCaller: false }
          : { ids: codec.encode(messages[Number(part)]!.content), fromCaller: true },
    );
  // The prefix already starts with it.
  const first = runs[0]!;
  if (codec.bosId !== null && first.ids[0] === codec.bosId) first.ids.shift();
  return runs.filter(run => run.ids.length > 0);
}
