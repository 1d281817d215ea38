#!/usr/bin/env node
/** The command line: a command a file. What only one command needs, it imports when it runs: all others start at once. */
import { Command } from "commander";
import { version } from "../version.ts";
import { exportRegistry, importRegistry } from "./archive.ts";
import { backbone } from "./backbone.ts";
import { backup } from "./backup.ts";
import { datasets } from "./datasets.ts";
import { doctor } from "./doctor.ts";
import { donors } from "./donors.ts";
import { evaluate } from "./evaluate.ts";
import { failure } from "./failure.ts";
import { graph } from "./graph.ts";
import { infer } from "./infer.ts";
import { jobs } from "./jobs.ts";
import { prompts } from "./prompts.ts";
import { pull } from "./pull.ts";
import { retrain } from "./retrain.ts";
import { search } from "./search.ts";
import { serve } from "./serve.ts";
import { similarity } from "./similarity.ts";
import { tasks } from "./tasks.ts";
import { train } from "./train.ts";
import { worker } from "./worker.ts";

const program = new Command("foreword")
  .description("One frozen language model, many tasks: each is a prompt put before the input.")
  .version(version)
  .showHelpAfterError("(foreword --help lists the commands)");

for (const command of [
  serve,
  worker,
  pull,
  infer,
  tasks,
  prompts,
  train,
  retrain,
  evaluate,
  search,
  donors,
  similarity,
  jobs,
  datasets,
  backbone,
  backup,
  exportRegistry,
  importRegistry,
  graph,
  doctor,
])
  program.addCommand(command());

// Whoever reads may stop reading: `foreword tasks | head`.
process.stdout.on("error", error => {
  if ((error as NodeJS.ErrnoException).code !== "EPIPE") throw error;
  process.exit();
});

let json = false;
program.hook("preAction", (_, command) => {
  json = command.opts().json === true;
});

// Commander's own help takes one name: `help jobs watch` would be that of jobs.
const words = process.argv.slice(2);
const nested = words[0] === "help" && words.length > 2;

try {
  await program.parseAsync(nested ? [...words.slice(1), "--help"] : words, { from: "user" });
} catch (error) {
  process.stderr.write(failure(error, json));
  process.exitCode = 1;
}
