/** Values of flags that are no plain text. */
import { InvalidArgumentError, Option } from "commander";
import type { PromptRef } from "../contract/common.ts";
import type { Active, Contender } from "../contract/task.ts";
import type { Init } from "../contract/train.ts";

export function numberOf(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("It takes a number.");
  return value;
}

/** `sentiment/3`. */
export function refOf(text: string): PromptRef {
  const [, task, version] = /^(.+)\/(\d+)$/.exec(text) ?? [];
  if (task === undefined) throw new InvalidArgumentError("It takes <task>/<version>.");
  return { task, version: Number(version) };
}

export const onOption = () =>
  new Option("--on <prompt>", "stack it on another prompt, <task>/<version>").argParser(refOf);

/** Several by comma, behind those of the same flag before. */
export const refsOf = (text: string, before: PromptRef[] = []): PromptRef[] => [
  ...before,
  ...text.split(",").map(each => refOf(each.trim())),
];

const starts = ["examples", "labels", "vocabulary", "random", "donor"] as const;

/** `labels`, `text:Is it good?`, `prompt:sentiment/3`. */
export function initOf(text: string): Init {
  const named = starts.find(name => name === text);
  if (named) return named;
  if (text.startsWith("text:")) return { text: text.slice("text:".length) };
  if (/^prompt:.+\/\d+$/.test(text)) return { prompt: refOf(text.slice("prompt:".length)) };
  throw new InvalidArgumentError(`It takes ${starts.join(", ")}, text:<words> or prompt:<task>/<version>.`);
}

const votes = ["mean", "majority", "weighted"] as const;

/** `3`, `2+3+4`, `2+3+4:majority`, `active`; several by comma, behind those of the same flag before. */
export function contendersOf(text: string, before: Evaluated[] = []): Evaluated[] {
  const more = text.split(",").map(each => (each.trim() === "active" ? "active" : contenderOf(each)));
  return [...before, ...more];
}

type Evaluated = Contender | "active";

function contenderOf(text: string): Contender {
  const [, members, way] = /^(\d+(?:\+\d+)*)(?::(\w+))?$/.exec(text.trim()) ?? [];
  const vote = votes.find(name => name === way);
  if (members === undefined || (way !== undefined && !vote))
    throw new InvalidArgumentError("It takes versions, such as 3, or ensembles, such as 2+3+4:majority.");
  const versions = members.split("+").map(Number);
  return versions.length === 1 && !vote ? versions[0]! : { ensemble: versions, ...(vote && { vote }) };
}

/** What is to answer: `3`, `2+3+4:majority`, or the record that `PUT /tasks/:id/active` takes, as JSON. */
export function activeOf(text: string): Active {
  if (text.trimStart().startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new InvalidArgumentError(`It is no JSON (${(error as Error).message}).`);
    }
  }
  if (text.includes(","))
    throw new InvalidArgumentError("One alone answers. Several vote together as 2+3+4.");
  const one = contenderOf(text);
  return typeof one === "number" ? { prompt: one } : one;
}

/** The command that lets it answer, for a shell. */
export function activating(task: string, active: Active): string {
  const { prompt, ensemble, vote, ...more } = active;
  const short =
    Object.keys(more).length > 0
      ? quoted(JSON.stringify(active))
      : `${ensemble?.join("+") ?? prompt}${vote ? `:${vote}` : ""}`;
  return `foreword prompts activate ${task} ${short}`;
}

/** A word for a shell, whatever it holds. */
export const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
