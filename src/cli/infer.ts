import { Command, Option } from "commander";
import type { InferReply } from "../contract/infer.ts";
import { ForewordError } from "../errors.ts";
import { untilReady } from "./progress.ts";
import { withRemedy } from "./remedy.ts";
import { call, print, route, type ServerFlags, serverOptions, table } from "./request.ts";
import { backboneOptions, settingsOf } from "./settings.ts";
import { standardInput } from "./text-file.ts";
import { numberOf } from "./values.ts";

const dashed = 'foreword infer sentiment -- "-1 star"';

export const infer = (): Command =>
  withRemedy(serverOptions(backboneOptions(new Command("infer"))), message =>
    message.includes("unknown option") && !message.includes("Did you mean")
      ? `If it is the input: one that begins with - goes behind --, as in: ${dashed}`
      : "",
  )
    .description("ask a task of a running server, or with --local of this process")
    .argument("<task>", "the task's id")
    .argument(
      "<input>",
      `the text, or a JSON object if the template has several fields; - reads standard input; any other text that begins with - goes behind --: ${dashed}`,
    )
    .option("--local", "load the backbone in this process, which then answers without a server")
    .addOption(
      new Option("--scores <which>", "show the probability of the best label, or of all").choices([
        "top",
        "all",
      ]),
    )
    .option("--max-tokens <count>", "most tokens to generate (default: 64)", numberOf)
    .option("--text", "take the input as text, even if it is a JSON object or -")
    .action(
      async (
        task: string,
        input: string,
        { server, key, json, local, scores, maxTokens, text, ...flags },
        command: Command,
      ) => {
        const [idle] = local
          ? ["server", "key"].filter(name => command.getOptionValueSource(name) === "cli")
          : Object.keys(flags);
        if (idle !== undefined) refuseIdle(command, idle, local);
        const body = {
          input: text ? input : fields(input === "-" ? await piped() : input),
          scores,
          max_tokens: maxTokens,
        };
        const ask = (url: string, key?: string) =>
          call<InferReply>({ server: url, key } as ServerFlags, "POST", route`/tasks/${task}/infer`, body);
        const reply = local ? await inProcess(flags, json, ask) : await ask(server, key);
        print(json, reply, () => told(reply, scores !== undefined));
        // The text may go into a file or a pipe, and stays as it is.
        if (!json && reply.finish_reason === "length")
          process.stderr.write(
            `cut after ${reply.usage.output_tokens} tokens; --max-tokens takes more, up to the model's context\n`,
          );
      },
    );

/** A flag that decides nothing would leave its caller with another answer than the one that was meant. */
function refuseIdle(command: Command, name: string, local: boolean | undefined): never {
  const flag = command.options.find(option => option.attributeName() === name)!.long;
  throw new ForewordError(
    "validation",
    local
      ? `${flag} is for a running server, and with --local this process answers. Leave one of them out.`
      : `${flag} is for --local; a running server has its own settings. Add --local, or leave it out.`,
    { flag },
  );
}

/** A whole server on a free port of this machine, for one question: the same code answers as in production. */
async function inProcess(
  flags: Record<string, unknown>,
  json: boolean | undefined,
  ask: (url: string, key?: string) => Promise<InferReply>,
): Promise<InferReply> {
  const config = await settingsOf({ logLevel: "error", ...flags, host: "127.0.0.1", port: 0 });
  const { createLogger } = await import("../observe/log.ts");
  const { start } = await import("../main.ts");
  const log = createLogger(config.logLevel, process.stderr);
  const running = await start(config, { patient: false, log });
  try {
    // Whoever asks for the log reads the same there, and programs watch nothing.
    await (json || flags.logLevel !== undefined ? running.ready : untilReady(running));
    return await ask(running.address, config.adminKey);
  } finally {
    await running.close();
  }
}

function told({ text, label, scores }: InferReply, wanted: boolean): string {
  const answer = `${text ?? label ?? "unsure"}\n`;
  if (!wanted || !scores) return answer;
  const best = Object.entries(scores).sort(([, one], [, other]) => other - one);
  return `${answer}\n${table(
    ["label", "probability"],
    best.map(([name, probability]) => [name, probability.toFixed(4)]),
  )}`;
}

/** Without the line's end that echo puts behind it. */
async function piped(): Promise<string> {
  const text = await standardInput().catch(error => {
    throw new ForewordError("validation", `Standard input can't be read (${(error as Error).message}).`);
  });
  return text.replace(/\r?\n$/, "");
}

function fields(input: string): unknown {
  if (!input.trimStart().startsWith("{")) return input;
  try {
    return JSON.parse(input);
  } catch {
    return input;
  }
}
