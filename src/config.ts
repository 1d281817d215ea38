/**
 * The settings (contract section 5): flags over environment over file over default, one schema.
 * A setting `cacheBytes` is `FOREWORD_CACHE_BYTES` in the environment and `cache_bytes` (or `cacheBytes`) in the file
 * that `FOREWORD_CONFIG` names.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { type Static, type TSchema, Type } from "typebox";
import { Value } from "typebox/value";
import { keyPattern } from "./admin-key.ts";
import { ForewordError } from "./errors.ts";

const MiB = 2 ** 20;
const count = (maximum: number) =>
  Type.Integer({ minimum: 1, maximum, description: `a whole number from 1 to ${maximum}` });
const bytes = (minimum: number) =>
  Type.Integer({
    minimum,
    maximum: Number.MAX_SAFE_INTEGER,
    description: `a size of at least ${minimum} bytes, as 536870912, 512MiB or 0.5GiB`,
  });
const text = (description: string) => Type.String({ minLength: 1, description });
const oneOf = <const Choices extends readonly string[]>(...choices: Choices) =>
  Type.Unsafe<Choices[number]>(Type.Enum([...choices], { description: `one of ${choices.join(", ")}` }));

const settings = {
  host: text("a host name or address"),
  port: Type.Integer({ minimum: 0, maximum: 65535, description: "a port from 0 (any free one) to 65535" }),
  data: text("a folder"),
  backbone: text("a catalogue name or a path"),
  mirror: Type.Optional(text("a folder")),
  registry: Type.String({
    pattern: "^(lmdb|rediss?(-sentinel|-cluster)?://.+)$",
    description: "lmdb, or where Redis is, as redis://host:6379",
  }),
  jobs: oneOf("embedded", "bullmq"),
  runtime: oneOf("onnx", "tfjs"),
  precision: oneOf("auto", "fp32", "int8"),
  threads: count(1024),
  trainThreads: count(1024),
  cacheBytes: bytes(0),
  batchTokens: count(1_000_000),
  queue: count(1_000_000),
  bodyLimit: bytes(1024),
  timeoutMs: count(3_600_000),
  logLevel: oneOf("fatal", "error", "warn", "info", "debug", "trace", "silent"),
  adminKey: Type.Optional(
    Type.String({
      pattern: keyPattern.source,
      description:
        "a secret of ASCII characters, as headers carry them, without blanks or line breaks at its ends",
    }),
  ),
};
export const Config = Type.Object(settings, { additionalProperties: false });
export type Config = Static<typeof Config>;
type Setting = keyof Config;

const defaults = (): Omit<Config, "jobs"> => ({
  host: "127.0.0.1",
  port: 8080,
  data: "./data",
  backbone: "smollm2-135m",
  registry: "lmdb",
  runtime: "onnx",
  precision: "auto",
  threads: availableParallelism(),
  trainThreads: availableParallelism(),
  cacheBytes: 512 * MiB,
  batchTokens: 768,
  queue: 1024,
  bodyLimit: 16 * MiB,
  timeoutMs: 60_000,
  logLevel: "info",
});

/** Never shown: they are, or hold, what only the owner knows. */
const secrets = new Set<Setting>(["adminKey", "registry"]);
const sizes = new Set<Setting>(["cacheBytes", "bodyLimit"]);
const names = Object.keys(settings) as Setting[];
const snake = (name: string) => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
export const environmentName = (name: Setting) => `FOREWORD_${snake(name).toUpperCase()}`;

const units: Record<string, number> = {
  "": 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: MiB,
  gib: 2 ** 30,
};

/** `512MiB` → 536870912; what is no size is given back as it is, for the schema to refuse. */
function parseSize(value: string): unknown {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(value.trim()) ?? [];
  const factor = units[unit?.toLowerCase() ?? "?"];
  return number === undefined || factor === undefined ? value : Math.round(Number(number) * factor);
}

/** Text from the environment or a flag, as the number that the schema asks for. */
function convert(name: Setting, schema: TSchema, value: unknown): unknown {
  if (typeof value !== "string" || !Type.IsInteger(schema)) return value;
  if (sizes.has(name)) return parseSize(value);
  return /^\d+$/.test(value.trim()) ? Number(value) : value;
}

function refuse(name: string, from: string, why: string): never {
  throw new ForewordError("validation", `Setting ${name} (${from}): ${why}.`, { setting: name, from });
}

function check(name: Setting, raw: unknown, from: string): unknown {
  const schema: TSchema = settings[name];
  const value = convert(name, schema, raw);
  if (Value.Check(schema, value)) return value;
  const shown = secrets.has(name) ? "this value" : JSON.stringify(raw);
  return refuse(
    name,
    from,
    `${shown} is not allowed; give ${(schema as { description?: string }).description}`,
  );
}

type Layer = Partial<Record<Setting, unknown>>;

/** Checks every value of a layer; `origin` says where a setting of it was found. */
function readLayer(values: Record<string, unknown>, origin: (name: string) => string): Layer {
  const layer: Layer = {};
  for (const [key, value] of Object.entries(values)) {
    if (value === undefined) continue;
    const name = names.find(known => known === key || snake(known) === key);
    if (!name) refuse(key, origin(key), `there is no such setting; known are ${names.map(snake).join(", ")}`);
    layer[name] = check(name, value, origin(key));
  }
  return layer;
}

function readFile(path: string): Layer {
  const origin = `file ${path}`;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const encoded = code === "ERR_ENCODING_INVALID_ENCODED_DATA";
    refuse("config", origin, encoded ? "it is no UTF-8: save it as UTF-8" : `it can't be read: ${message}`);
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    // V8's own words quote the text, and so what is secret in it.
    refuse("config", origin, `it is no JSON from ${faultOf(text)} on`);
  }
  if (content === null || typeof content !== "object" || Array.isArray(content))
    refuse("config", origin, "it must hold one JSON object of settings");
  return readLayer(content as Record<string, unknown>, () => origin);
}

/** The line and column of the first character that JSON does not have there. */
function faultOf(text: string): string {
  let [good, bad] = [0, text.length + 1];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (beginsJson(text.slice(0, middle))) good = middle;
    else bad = middle;
  }
  const lines = text.slice(0, good).split("\n");
  return `line ${lines.length}, column ${lines.at(-1)!.length + 1}`;
}

/** Whether more text could make it JSON: V8 misses something at its end, and nothing before. */
function beginsJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch (error) {
    const { message } = error as Error;
    const [told, at = text.length] = /(?:end of JSON input|at position (\d+))[^"]*$/.exec(message) ?? [];
    return told !== undefined && Number(at) >= text.length;
  }
}

/** Only our own names are read: other programs' variables that begin with FOREWORD_ are none of our business. */
function readEnvironment(env: NodeJS.ProcessEnv): Layer {
  const set = names.flatMap(name => {
    const value = env[environmentName(name)];
    return value === undefined || value === "" ? [] : [[name, value] as const];
  });
  return readLayer(Object.fromEntries(set), name => `environment ${environmentName(name as Setting)}`);
}

export interface ConfigSources {
  /** From the command line, by setting; `config` names the file and goes before FOREWORD_CONFIG. */
  flags?: Partial<Record<Setting | "config", unknown>>;
  env?: NodeJS.ProcessEnv;
}

/** All settings. Throws `validation` naming the setting, where it came from and what is allowed. */
export function loadConfig({ flags = {}, env = process.env }: ConfigSources = {}): Config {
  const { config: path = env.FOREWORD_CONFIG, ...given } = flags;
  return withJobs({
    ...defaults(),
    ...(typeof path === "string" && path !== "" ? readFile(path) : {}),
    ...readEnvironment(env),
    ...readLayer(given, name => `flag --${snake(name).replaceAll("_", "-")}`),
  } as Omit<Config, "jobs"> & Partial<Config>);
}

/** The queue follows the registry: many processes share jobs through Redis alone, and would fight over them without. */
function withJobs(config: Omit<Config, "jobs"> & Partial<Config>): Config {
  const shared = config.registry !== "lmdb";
  const { jobs = shared ? "bullmq" : "embedded" } = config;
  if (shared === (jobs === "bullmq")) return { ...config, jobs };
  return refuse(
    "jobs",
    "beside registry",
    shared
      ? "servers that share a Redis registry share its jobs too; leave it out, or give bullmq, and run foreword worker"
      : "bullmq needs a Redis registry; give one (FOREWORD_REGISTRY), or leave it out",
  );
}
