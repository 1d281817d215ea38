/** Prompts that a search thinks of itself: wordings that suit any task, and worked examples. */
import type { Example } from "../../contract/dataset.ts";
import type { Ranked } from "../../contract/search.ts";
import type { Task, TaskType, Verbalizers } from "../../contract/task.ts";
import { orElse } from "../../errors.ts";
import type { TextCodec } from "../../prompt/codec.ts";
import { told } from "../../prompt/verbalizer.ts";
import { labelsOf } from "../check.ts";
import { answerOf } from "../examples.ts";

export interface Candidate {
  name: string;
  source: Ranked["source"];
  template: string;
  verbalizers?: Verbalizers;
}

export interface Subject {
  task: Pick<Task, "type" | "labels" | "description">;
  /** The template's fields. */
  fields: readonly string[];
  /** Examples that a prompt may show, in the order in which they are shown. */
  shown: readonly Example[];
  codec: TextCodec;
}

/** Worked examples of each label, or of texts. */
const SHOTS = { classification: [1, 2, 4, 8], generation: [1, 3, 6, 12] } as const;
/** Labels that a question names. */
const NAMED = 12;

export function patterns(subject: Subject): Candidate[] {
  return [...wordings(subject), ...workedExamples(subject)];
}

function wordings({ task, fields, codec }: Subject): Candidate[] {
  const asked = lines(fields);
  const instruction = instructionOf(task);
  const list = listed(toldOf(task), "or");
  const few = task.type === "classification" && labelsOf(task).length <= NAMED;
  const chat = chatOf(codec, `${instruction}\n\n${asked}`);
  const made: (readonly [string, string] | null)[] =
    task.type === "classification"
      ? [
          ["plain", `${asked}\nLabel:`],
          ["category", `${asked}\nCategory:`],
          ["instruction", `${instruction}\n\n${asked}\nAnswer:`],
          few ? ["question", `${asked}\nQuestion: Is this ${list}?\nAnswer:`] : null,
          few ? ["sentence", `${asked}\nThis is about`] : null,
          chat === null ? null : ["chat", chat],
        ]
      : [
          ["plain", `${asked}\nOutput:`],
          ["instruction", `${instruction}\n\n${asked}\nOutput:`],
          chat === null ? null : ["chat", chat],
        ];
  return made
    .filter(each => each !== null)
    .map(([name, template]) => ({ name, source: "pattern", template }));
}

/** As many of each label as `SHOTS` says, behind one another, then the question in the same words. */
function workedExamples(subject: Subject): Candidate[] {
  const { task, fields, shown, codec } = subject;
  const usable = shown.filter(example => isPlain(example, task, codec));
  let before = 0;
  return SHOTS[task.type].flatMap(count => {
    const chosen = task.type === "classification" ? ofEachLabel(usable, count) : usable.slice(0, count);
    if (chosen.length === before) return [];
    before = chosen.length;
    const name = `${chosen.length} examples`;
    const made: Candidate[] = [{ name, source: "examples", template: showing(chosen, task, fields) }];
    const turns = task.type === "generation" ? chatTurns(subject, chosen) : null;
    if (turns !== null) made.push({ name: `${name}, chat`, source: "examples", template: turns });
    return made;
  });
}

/** A template that shows examples in its own words. */
export function showing(
  examples: readonly Example[],
  task: Pick<Task, "type" | "labels">,
  fields: readonly string[],
): string {
  const heading = headingFor(task.type);
  const worked = examples.map(
    example => `${filled(fields, example)}\n${heading}: ${said(example, task)}\n\n`,
  );
  return `${worked.join("")}${lines(fields)}\n${heading}:`;
}

/** What the backbone is told to do. */
function instructionOf(task: Subject["task"]): string {
  if (task.description.trim() !== "") return task.description.trim();
  if (task.type === "generation") return "Write the output for the input.";
  return `Say which label fits: ${listed(toldOf(task), "or")}.`;
}

const toldOf = (task: Pick<Task, "labels">): string[] =>
  labelsOf(task).map(label => told(task.labels!, label));

/** An example's answer as the task's words for it. */
export const said = (example: Example, { labels }: Pick<Task, "labels">): string =>
  "label" in example ? told(labels!, example.label) : answerOf(example).trim();

/** What stands before an answer. */
export const headingFor = (type: TaskType): string => (type === "classification" ? "Label" : "Output");

/** A line a field: `Text: {{ input }}`. */
export const lines = (fields: readonly string[]): string =>
  fields.map(field => `${headingOf(field)}: {{ ${field} }}`).join("\n");

/** The same lines with an example's texts. */
export const filled = (fields: readonly string[], { input }: Example): string =>
  fields.map(field => `${headingOf(field)}: ${textOf(input, field).trim()}`).join("\n");

const textOf = (input: Example["input"], field: string): string =>
  typeof input === "string" ? input : String(input[field] ?? "");

const headingOf = (field: string): string => {
  const words = field === "input" ? "text" : field.replace(/[_-]/g, " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
};

const listed = (names: readonly string[], last: string): string =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} ${last} ${names.at(-1)}`;

/** Whether every text of an example can stand in a template as it is. */
export const isPlain = (example: Example, task: Pick<Task, "labels">, codec: TextCodec): boolean => {
  const texts = typeof example.input === "string" ? [example.input] : Object.values(example.input);
  return [...texts, said(example, task)].every(text => typeof text === "string" && isPlainText(text, codec));
};

/** Whether a template reads a text as that text: it has no braces, no half of a surrogate pair, and no special token. */
export function isPlainText(text: string, codec: TextCodec): boolean {
  if (text.includes("{{") || /\p{Surrogate}/u.test(text)) return false;
  const [plain, special] = [codec.encode(text), codec.encodeWithSpecials(text)];
  return plain.length === special.length && plain.every((id, i) => id === special[i]);
}

/** The first `count` of each label, labels in turn. */
export function ofEachLabel(examples: readonly Example[], count: number): Example[] {
  const rounds: Example[][] = [];
  const taken = new Map<string, number>();
  for (const example of examples) {
    const round = taken.get(answerOf(example)) ?? 0;
    if (round >= count) continue;
    taken.set(answerOf(example), round + 1);
    rounds[round] ??= [];
    rounds[round].push(example);
  }
  return rounds.flat();
}

/** One question in the backbone's chat, up to its answer; null where it has no chat template that a prompt can spell. */
export function chatOf(codec: TextCodec, question: string): string | null {
  return rendered(codec, [{ role: "user", content: question }]);
}

function chatTurns({ task, fields, codec }: Subject, examples: readonly Example[]): string | null {
  const turns = examples.flatMap(example => [
    { role: "user", content: filled(fields, example) },
    { role: "assistant", content: said(example, task) },
  ]);
  return rendered(codec, [...turns, { role: "user", content: lines(fields) }]);
}

/** A backbone has no chat template perhaps, or one that takes no such messages. */
function spelt(codec: TextCodec, messages: { role: string; content: string }[]): string | null {
  try {
    return codec.renderChat?.(messages, { addGenerationPrompt: true }) ?? null;
  } catch (error) {
    return orElse(null, "bad_template", "validation")(error);
  }
}

function rendered(codec: TextCodec, messages: { role: string; content: string }[]): string | null {
  const text = spelt(codec, messages);
  if (text === null) return null;
  // A prefix begins with BOS by itself.
  const doubled = codec.bosId !== null && codec.encodeWithSpecials(text)[0] === codec.bosId;
  return doubled ? null : text;
}
