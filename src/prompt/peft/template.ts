/**
 * Where an adapter's prompt stands. PEFT puts it before the whole text, which it tokenises by itself: where the
 * tokenizer adds BOS, that stands behind virtual tokens and prefixes, so a template of such a backbone writes it out:
 * `{{ soft(20) }}<s>{{ input }}`, `<s>{{ input }}` (found with peft 0.21 and transformers 5.24: test/peft).
 */
import { invalid } from "../../errors.ts";
import { writesBos } from "../layout.ts";
import { scanTag } from "../tag.ts";
import { compileTemplate, hasSlots } from "../template.ts";

/** In an adapter that Foreword wrote: what stands behind the prompt. A prefix holds BOS already. */
export const templateKey = "foreword.template";

export interface TemplateWishes {
  /** The caller's; one without a slot has it put in front. */
  asked: string | undefined;
  /** The adapter's own (`templateKey`). */
  written: string | undefined;
  /** Virtual tokens, or null for a prefix. */
  slot: number | null;
  /** The text of a BOS that the tokenizer adds, or null. */
  bos: string | null;
}

/** Throws `bad_template`, and `validation` where a prefix's template has slots. */
export function peftTemplate({ asked, written, slot, bos }: TemplateWishes): string {
  const text = asked ?? written ?? "{{ input }}";
  const compiled = compileTemplate(text);
  if (slot === null && hasSlots(compiled))
    throw invalid(
      "template",
      "PREFIX_TUNING has keys and values and fills no slot. Leave the soft slots out.",
    );
  const whole = slot === null || hasSlots(compiled) ? text : `{{ soft(${slot}) }}${text}`;
  const held = slot === null && written !== undefined;
  if (bos === null || held || writesBos(compiled, { bosText: bos })) return whole;
  const front = frontOf(whole);
  return slot !== null && front === 0 ? whole : whole.slice(0, front) + bos + whole.slice(front);
}

/** Where the slots end that a template begins with. */
function frontOf(source: string): number {
  let at = 0;
  while (source.startsWith("{{", at)) {
    const { piece, end } = scanTag(source, at);
    if (piece.kind !== "soft") break;
    at = end;
  }
  return at;
}
