/** `npm run bench -- <name> [options]`: each bench is one command that writes bench/results/<name>.json and .svg. */
const benches = {
  serving: () => import("./serving/main.ts"),
  training: () => import("./training/main.ts"),
  ensembles: () => import("./ensembles/main.ts"),
  eight: () => import("./eight/main.ts"),
  registry: () => import("./registry/main.ts"),
  contexts: () => import("./contexts/main.ts"),
  gate: () => import("./gate/main.ts"),
  transfer: () => import("./transfer/main.ts"),
  learning: () => import("./learning/main.ts"),
  /** Not a measurement alone: it writes the bundled prompts. */
  prompts: () => import("./prompts/train.ts"),
};

const [name, ...options] = process.argv.slice(2);
if (name === undefined || !(name in benches)) {
  console.error(`npm run bench -- <${Object.keys(benches).join(" | ")}> [--help]`);
  process.exitCode = 2;
} else {
  const { run } = await benches[name as keyof typeof benches]();
  await run(options);
}
