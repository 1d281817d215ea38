/**
 * The rooms of src/, lowest first. A room imports only from rooms above its own line (and from itself).
 * Native libraries, and what speaks to Redis, have one importer each.
 */
const rooms = [
  ["errors", "^src/errors\\.ts$"],
  ["processes", "^src/processes\\.ts$"],
  ["config", "^src/(config|admin-key|version)\\.ts$"],
  ["observe", "^src/observe/"],
  ["contract", "^src/contract/"],
  ["tensor", "^src/tensor/"],
  ["graph", "^src/graph/"],
  ["autodiff", "^src/autodiff/"],
  ["runtime", "^src/runtime/"],
  ["backbone", "^src/backbone/"],
  ["prompt", "^src/prompt/"],
  ["compile", "^src/compile/"],
  ["engine", "^src/engine/"],
  ["training", "^src/training/"],
  ["gate", "^src/gate/"],
  ["registry", "^src/registry/"],
  ["jobs", "^src/jobs/"],
  ["server", "^src/server/"],
  ["main", "^src/main\\.ts$"],
  ["cli", "^src/cli/"],
];

const direction = rooms.slice(0, -1).map(([name, path], at) => ({
  name: `${name}-imports-downwards`,
  severity: "error",
  from: { path },
  to: { path: rooms.slice(at + 1).map(([, later]) => later) },
}));

const only = (library, owner) => ({
  name: `only-${owner}-imports-${library}`,
  severity: "error",
  from: { path: "^src/", pathNot: `^src/${owner}` },
  to: { path: `node_modules/${library}` },
});

module.exports = {
  forbidden: [
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } } },
    { name: "contract-imports-nothing-of-ours", severity: "error", from: { path: "^src/contract/" }, to: { path: "^src/(?!contract/)" } },
    { name: "no-unresolvable", severity: "error", from: { path: "^src/" }, to: { couldNotResolve: true } },
    { name: "no-dev-dependency", severity: "error", from: { path: "^src/" }, to: { dependencyTypes: ["npm-dev"] } },
    ...direction,
    {
      name: "cli-starts-at-once",
      comment: "What one command needs is imported when it runs: import() it, or put it behind a file that is.",
      severity: "error",
      from: { path: "^src/cli/", pathNot: "^src/cli/backbone-graph\\.ts$" },
      to: {
        path: ["^src/", "node_modules/typebox"],
        pathNot: "^src/(cli/|errors|version|admin-key|prompt/peft/pickle|training/evaluation/metrics)",
        dynamic: false,
        dependencyTypesNot: ["type-only"],
      },
    },
    only("onnxruntime-node", "runtime/onnx\\.ts"),
    only("@tensorflow", "runtime/tfjs"),
    only("lmdb", "registry/lmdb"),
    only("ioredis", "registry/redis"),
    only("bullmq", "jobs/bullmq"),
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { extensions: [".ts", ".js", ".json"], conditionNames: ["import", "node", "default"], exportsFields: ["exports"] },
  },
};
