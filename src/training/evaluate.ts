/** Prompts' answers to examples, by the engine that serves: what is measured here is what callers will get. */
import type { Example } from "../contract/dataset.ts";
import type { Active, Task } from "../contract/task.ts";
import type { Metric } from "../contract/train.ts";
import type { Core } from "../engine/core.ts";
import type { LabelVerbalizers, PromptContent, PromptSource } from "../engine/engine.ts";
import { compileTemplate } from "../prompt/template.ts";
import { verbalize } from "../prompt/verbalizer.ts";
import { best, calibrate, vote } from "../prompt/votes.ts";
import { answerOf } from "./examples.ts";
import type { Judged } from "./metrics.ts";

/** Tokens of all verbalizers up to which every label's probability is asked for, and with it the loss. */
const ALL_SCORES = 64;
/** Examples that are answered before the machine is offered to others. */
const AT_ONCE = 32;

/** Prompts given by hand, as the engine asks for them. */
export class Shelf implements PromptSource {
  readonly #contents = new Map<string, PromptContent>();

  put(core: Core, content: PromptContent): string {
    const { digest } = core.inspect(content);
    this.#contents.set(digest, content);
    return digest;
  }

  drop(core: Core, digest: string): void {
    core.forget(digest);
    this.#contents.delete(digest);
  }

  async load(digest: string): Promise<PromptContent> {
    return this.#contents.get(digest)!;
  }
}

export interface Judging {
  core: Core;
  shelf: Shelf;
  task: Pick<Task, "labels">;
  /** One prompt, or an ensemble's members. */
  prompts: readonly PromptContent[];
  active: Active;
  /** Of what is asked for: "loss" needs every label's probability. */
  metric: Metric;
  pause: () => Promise<void>;
}

/** Answers every example as serving would, in the examples' order. */
export async function judge(judging: Judging, examples: readonly Example[]): Promise<Judged[]> {
  const { core, shelf, prompts, pause } = judging;
  const members = prompts.map(content => ({
    digest: shelf.put(core, content),
    template: compileTemplate(content.template),
  }));
  try {
    const judged: Judged[] = [];
    for (let at = 0; at < examples.length; at += AT_ONCE) {
      await pause();
      const part = examples.slice(at, at + AT_ONCE);
      const answered = await Promise.all(
        part.map(example =>
          judging.task.labels === null
            ? text(core, members[0]!.digest, example)
            : label(
                judging,
                members.map(({ digest, template }) => ({
                  digest,
                  labels: verbalize(judging.task.labels!, template),
                })),
                example,
              ),
        ),
      );
      judged.push(...answered);
    }
    return judged;
  } finally {
    for (const { digest } of members) shelf.drop(core, digest);
  }
}

const patient = { deadline: Number.POSITIVE_INFINITY, cancelled: () => false, onToken: () => {} };

async function label(
  { core, active, metric }: Judging,
  members: readonly { digest: string; labels: LabelVerbalizers[] }[],
  example: Example,
): Promise<Judged> {
  const { labels } = members[0]!;
  const few = core.checkLabels(labels).flat(2).length <= ALL_SCORES;
  const fitted = active.bias !== undefined || active.temperature !== undefined;
  const all = few || fitted || metric === "loss" || members.length > 1;
  const answers = await Promise.all(
    members.map(member =>
      core.infer(
        {
          kind: "classify",
          prompt: member.digest,
          fields: example.input,
          labels: member.labels,
          scores: all ? "all" : "top",
        },
        patient,
      ),
    ),
  );
  const wanted = answerOf(example);
  if (!all) return { wanted, given: answers[0]!.scores[0]!.label, loss: null };
  const scores = answers.map(answer =>
    calibrate(new Map(answer.scores.map(each => [each.label, each.logprob])), active),
  );
  const voted =
    members.length === 1
      ? scores[0]!
      : vote(scores, active.vote ?? "mean", active.weights ?? members.map(() => 1));
  return { wanted, given: best(voted), loss: -Math.log(voted.get(wanted)!) };
}

/** A text is judged by how probable the wanted one is; `given` stays empty. */
async function text(core: Core, prompt: string, example: Example): Promise<Judged> {
  const wanted = answerOf(example);
  const { targets } = await core.infer(
    {
      kind: "generate",
      prompt,
      fields: example.input,
      targets: [wanted],
      maxTokens: 1,
      temperature: 0,
      topP: 1,
      topK: 0,
      repetitionPenalty: 1,
      stop: [],
      logprobs: null,
    },
    patient,
  );
  const { logprob, tokens } = targets![0]!;
  return { wanted, given: "", loss: -logprob / Math.max(1, tokens) };
}
