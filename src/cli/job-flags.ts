/** Flags of the commands that start jobs. */
import { type Command, Option } from "commander";

export interface JobFlags {
  detach?: boolean;
}

export const detachOption = () =>
  new Option("--detach", "print the job's id and leave; foreword jobs watch follows it");

export const metricOption = () =>
  new Option("--metric <metric>", "what decides which is best (default: accuracy; loss for texts)").choices([
    "accuracy",
    "macro_f1",
    "loss",
  ]);

export interface ActivateFlags {
  activate?: boolean;
  ifBetter?: boolean;
}

/** `what` is what may answer afterwards. */
export const activateOptions = (command: Command, what: string): Command =>
  command
    .addOption(new Option("--activate", `let ${what} answer`).conflicts("ifBetter"))
    .option("--if-better", "let it answer if it is better beyond chance");

export const activationOf = ({ activate, ifBetter }: ActivateFlags): boolean | "if_better" | undefined =>
  ifBetter ? "if_better" : activate;

/** A request as flags make it: JSON leaves out what is undefined, for which the server has its own default. */
export type Asked<Request> = { [Name in keyof Request]: Request[Name] | undefined };
