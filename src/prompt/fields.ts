/** From what a request sends to the texts that fill a template's fields. */
import { ForewordError } from "../errors.ts";
import type { ChatMessage } from "./codec.ts";
import type { CompiledTemplate } from "./template.ts";

export type FieldValue = string | readonly ChatMessage[];
export type FieldValues = Readonly<Record<string, FieldValue>>;

/** The field that takes a list of messages, rendered by the backbone's chat template. */
export const chatField = "messages";

/**
 * A text fills the one field; an object must name exactly the fields. Throws `fields_required`, `unknown_field`,
 * `empty_input` (empty, or white space alone) and `validation` (a value of the wrong type).
 */
export function fillFields(
  template: Pick<CompiledTemplate, "fields">,
  input: string | FieldValues,
): Map<string, FieldValue> {
  const { fields } = template;
  if (typeof input === "string") {
    if (fields.length > 1) {
      throw new ForewordError(
        "fields_required",
        `The template has ${fields.length} fields, so a text alone does not say which it fills. ` +
          `Send an object with ${list(fields)}.`,
        { fields: [...fields] },
      );
    }
    return new Map([[fields[0]!, checked(fields[0]!, input)]]);
  }
  const unknown = Object.keys(input).filter(name => !fields.includes(name));
  if (unknown.length > 0) {
    throw new ForewordError(
      "unknown_field",
      `The template has no field ${list(unknown)}; its fields are ${list(fields)}. Leave the others out.`,
      { unknown, fields: [...fields] },
    );
  }
  const missing = fields.filter(name => !Object.hasOwn(input, name));
  if (missing.length > 0) {
    throw new ForewordError(
      "fields_required",
      `The input lacks ${list(missing)}; the template's fields are ${list(fields)}. Send them all.`,
      { missing, fields: [...fields] },
    );
  }
  return new Map(fields.map(name => [name, checked(name, input[name]!)]));
}

/** Whether two templates are filled by the same inputs. */
export const sameFields = (a: readonly string[], b: readonly string[]): boolean =>
  [...a].sort().join() === [...b].sort().join();

function checked(name: string, value: FieldValue): FieldValue {
  if (typeof value === "string") {
    if (value.trim() === "") throw empty(name);
    return name === chatField ? [{ role: "user", content: value }] : value;
  }
  if (name !== chatField || !Array.isArray(value)) {
    throw new ForewordError(
      "validation",
      `Field ${JSON.stringify(name)} takes a text${name === chatField ? " or a list of messages" : ""}.`,
    );
  }
  value.forEach(checkMessage);
  if (value.every(message => message.content.trim() === "")) throw empty(name);
  return value;
}

/** A role is written between chat markers, so it must not be able to spell one. */
function checkMessage(message: Partial<ChatMessage> | null, index: number): void {
  const { role, content } = message ?? {};
  if (typeof role !== "string" || !/^[a-z_]{1,32}$/.test(role) || typeof content !== "string") {
    throw new ForewordError(
      "validation",
      `Message ${index} of field "${chatField}" must be {"role", "content"}: ` +
        "a role of lower-case letters such as user, and a text.",
    );
  }
}

function empty(name: string): ForewordError {
  return new ForewordError(
    "empty_input",
    `Field ${JSON.stringify(name)} is empty or white space alone, which says nothing to classify or continue. ` +
      "Send a text.",
    { field: name },
  );
}

function list(names: readonly string[]): string {
  return names.map(name => JSON.stringify(name)).join(", ");
}
