/** What helps, behind a message of commander's that only says what is wrong. */
import type { Command } from "commander";

/** `remedyFor` is given the message; "" where it has nothing to add. */
export const withRemedy = (command: Command, remedyFor: (message: string) => string): Command =>
  command.configureOutput({
    outputError: (message, write) => {
      const remedy = remedyFor(message);
      write(remedy === "" ? message : `${message}${remedy}\n`);
    },
  });

/** What a group runs if no command is named. A mistyped one comes to it as an argument, and is not blamed on it. */
export function listOf(group: Command, usage = "list"): Command {
  const list = group.command(usage, { isDefault: true });
  const foreword = `foreword ${group.name()}`;
  return list.configureOutput({
    outputError: (message, write) => {
      const flags = list.args.findIndex(word => word.startsWith("-"));
      const words = flags < 0 ? list.args : list.args.slice(0, flags);
      const [typed = ""] = words;
      if (group.args[0] === list.name() || words.length <= list.registeredArguments.length) write(message);
      else if (group.commands.some(command => command.name() === typed))
        write(`error: flags go behind the command, as in: ${foreword} ${typed} --json\n`);
      else write(`error: unknown command '${typed}'\n(${foreword} --help lists the commands)\n`);
    },
  });
}
