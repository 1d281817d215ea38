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
