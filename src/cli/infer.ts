import { Command } from "commander";
import type { InferReply } from "../contract/infer.ts";
import { ForewordError } from "../errors.ts";
import { call, print, route, type ServerFlags, serverOptions } from "./request.ts";
import { backboneOptions, settingsOf } from "./settings.ts";

export const infer = (): Command =>
  serverOptions(backboneOptions(new Command("infer")))
    .description("ask a task: a running server's, or with --local one in this process")
    .argument("<task>", "the task's id")
    .argument("<input>", "the text; a JSON object where the template has several fields")
    .option("--local", "start the backbone in this process, with its data folder")
    .option("--scores <which>", "top or all")
    .option("--max-tokens <count>", "tokens to generate at most")
    .option("--text", "the input is a text, also where it could be a JSON object")
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
          input: text ? input : fields(input),
          ...(scores && { scores }),
          ...(maxTokens && { max_tokens: Number(maxTokens) }),
        };
        const ask = (url: string, key?: string) =>
          call<InferReply>({ server: url, key } as ServerFlags, "POST", route`/tasks/${task}/infer`, body);
        const reply = local ? await inProcess(flags, ask) : await ask(server, key);
        print(json, reply, () => `${reply.text ?? reply.label ?? "unsure"}\n`);
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
  ask: (url: string, key?: string) => Promise<InferReply>,
): Promise<InferReply> {
  const config = await settingsOf({ logLevel: "error", ...flags, host: "127.0.0.1", port: 0 });
  const { start } = await import("../main.ts");
  const running = await start(config);
  try {
    await running.ready;
    return await ask(running.address, config.adminKey);
  } finally {
    await running.close();
  }
}

function fields(input: string): unknown {
  if (!input.trimStart().startsWith("{")) return input;
  try {
    return JSON.parse(input);
  } catch {
    return input;
  }
}
