import type { Labels, Verbalizers } from "../contract/task.ts";
import { chatField } from "./fields.ts";
import type { CompiledTemplate } from "./template.ts";

export interface VerbalizedLabel {
  label: string;
  /** Exact texts, leading space included. */
  verbalizers: readonly string[];
}

/** A line break, or a special token such as `<|im_start|>`, `</s>`, `<start_of_turn>`, `[/INST]`; an arrow is none. */
const noSpaceAfter = /(\n|<[^<>\s=-][^<>\s]*>|\[\/?INST\])$/u;

/**
 * The texts that stand for each label (contract, section 1). Names alone become " not spam" for `not_spam`: with a
 * leading space, except after a line break or a chat marker. Texts that were spelled out are kept exactly.
 * `own` are those of one prompt, which go before its task's.
 */
export function verbalize(
  labels: Labels,
  template: Pick<CompiledTemplate, "pieces">,
  own: Verbalizers = {},
): VerbalizedLabel[] {
  const space = endsOpen(template) ? "" : " ";
  const all: [string, string | string[]][] = Array.isArray(labels)
    ? labels.map(label => [label, space + spoken(label)])
    : Object.entries(labels);
  return all.map(([label, texts]) => {
    // A label may be called "constructor", which every object has.
    const chosen = Object.hasOwn(own, label) ? own[label]! : texts;
    return { label, verbalizers: typeof chosen === "string" ? [chosen] : [...chosen] };
  });
}

/**
 * A hard prompt's template as it is kept for labels that are names alone: each brings the space before it, and a blank
 * that ends the template would be a second one.
 */
export const withoutBlank = (template: string, labels: Labels | null): string =>
  // Begun anew at each of a million blanks that do not end it, the search would take minutes.
  Array.isArray(labels) ? template.replace(/(?<![ \t])[ \t]+$/, "") : template;

/** A label's name as words. A sign in front or behind says something: "-1" is not "1", nor "A-" an "A". */
export const spoken = (label: string): string => label.replace(/_|(?<=.)-(?=.)/gsu, " ");

/** How a prompt's words tell of a label: by the first of its texts, or its name as words. */
export function told(labels: Labels, label: string): string {
  const texts = Array.isArray(labels) || !Object.hasOwn(labels, label) ? spoken(label) : labels[label]!;
  return (typeof texts === "string" ? texts : texts[0]!).trim();
}

/** The labels with every verbalizer spelled out, one prompt's own before its task's. */
export const spelledOut = (...given: Parameters<typeof verbalize>): Labels =>
  Object.fromEntries(verbalize(...given).map(({ label, verbalizers }) => [label, [...verbalizers]]));

/**
 * Behind `Output:` a backbone writes " Paris", a prompt that was trained "Paris" as its examples have it: both are the
 * text, whose white space at its ends decides nothing elsewhere.
 */
export const spellings = (text: string, template: Pick<CompiledTemplate, "pieces">): string[] =>
  !endsOpen(template) && /^\S/u.test(text) ? [text, ` ${text}`] : [text];

/** Whether the answer starts a line or a turn, without a space; a chat's rendering ends with the assistant's opening. */
export function endsOpen({ pieces }: Pick<CompiledTemplate, "pieces">): boolean {
  const last = pieces.at(-1);
  if (last?.kind === "field") return last.name === chatField;
  return last?.kind === "literal" && noSpaceAfter.test(last.text);
}
