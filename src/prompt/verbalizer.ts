import type { Labels } from "../contract/task.ts";
import { chatField } from "./fields.ts";
import type { CompiledTemplate } from "./template.ts";

export interface VerbalizedLabel {
  label: string;
  /** Exact texts, leading space included. */
  verbalizers: string[];
}

/** A line break, or a special token such as `<|im_start|>`, `</s>`, `<start_of_turn>`, `[/INST]`; an arrow is none. */
const noSpaceAfter = /(\n|<[^<>\s=-][^<>\s]*>|\[\/?INST\])$/u;

/**
 * The texts that stand for each label (contract, section 1). Names alone become " not spam" for `not_spam`: with a
 * leading space, except after a line break or a chat marker. Texts that were spelled out are kept exactly.
 */
export function verbalize(labels: Labels, template: Pick<CompiledTemplate, "pieces">): VerbalizedLabel[] {
  if (Array.isArray(labels)) {
    const space = endsOpen(template) ? "" : " ";
    return labels.map(label => ({ label, verbalizers: [space + label.replace(/[_-]/g, " ")] }));
  }
  return Object.entries(labels).map(([label, texts]) => ({
    label,
    verbalizers: typeof texts === "string" ? [texts] : [...texts],
  }));
}

/** Whether the answer starts a line or a turn; a chat's rendering ends with the assistant's opening. */
function endsOpen({ pieces }: Pick<CompiledTemplate, "pieces">): boolean {
  const last = pieces.at(-1);
  if (last?.kind === "field") return last.name === chatField;
  return last?.kind === "literal" && noSpaceAfter.test(last.text);
}
