/** The files of docker/, and the programs that know what may stand in them: all from package registries. */
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { DockerfileParser } from "dockerfile-ast";
import { parseAllDocuments } from "yaml";
import { ensurePython } from "../../bench/peers/python.ts";

// biome-ignore lint/suspicious/noExplicitAny: these files' schemas are what is checked
export type Json = any;

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const text = (path: string): string => readFileSync(join(root, path), "utf8");

export type Tool = "hadolint" | "kubernetes-validate" | "docker-compose";

export interface Said {
  code: number | null;
  said: string;
}

/** Fetched once, which no test's time limit counts. */
const bin = dirname(ensurePython("requirements-deploy.txt"));
const path = (name: Tool) => join(bin, name);
/** Compose reads the environment; what else is in ours is none of its business. */
const environment = { PATH: process.env.PATH, HOME: process.env.HOME };

export function tool(name: Tool, args: readonly string[], input = ""): Said {
  const options = { cwd: root, env: environment, input, encoding: "utf8" } as const;
  const { status, stdout, stderr } = spawnSync(path(name), args, options);
  return { code: status, said: `${stdout}${stderr}` };
}

/** docker/compose.yaml as Docker Compose reads it with these lines in docker/.env. */
export function composed(settings: Record<string, string>): Json {
  const args = ["-f", "docker/compose.yaml", "config", "--format", "json"];
  const options = { cwd: root, env: { ...environment, ...settings }, encoding: "utf8" } as const;
  return JSON.parse(execFileSync(path("docker-compose"), args, options));
}

const folders = ["docker/kubernetes", "docker/redis"];
export const manifestFiles = folders.flatMap(folder =>
  readdirSync(join(root, folder))
    .filter(name => name.endsWith(".yaml"))
    .map(name => `${folder}/${name}`),
);
export const documentsOf = (path: string): Json[] =>
  parseAllDocuments(text(path)).map(document => document.toJS());
/** Of every kind, as they stand in the files. */
export const manifests: Json[] = manifestFiles.flatMap(documentsOf);
export const pods: Json[] = manifests.map(({ spec }) => spec?.template?.spec).filter(Boolean);
export const containers: Json[] = pods.flatMap(pod => pod.containers);

/** The image as its Dockerfile makes it without a target: the last stage, upon its base. */
export const image = (() => {
  const file = DockerfileParser.parse(text("Dockerfile"));
  const words = (instruction: { getJSONStrings(): { getJSONValue(): string }[] } | undefined) =>
    instruction!.getJSONStrings().map(word => word.getJSONValue());
  const stage = (name: string) =>
    file
      .getFROMs()
      .find(from => from.getBuildStage() === name)!
      .getRange();
  const env = ["base", "default"].flatMap(name =>
    (file.getContainingImage(stage(name).start) as { getENVs(): ReturnType<typeof file.getENVs> })
      .getENVs()
      .flatMap(each => each.getProperties()),
  );
  return {
    file,
    env: Object.fromEntries(env.map(each => [each.getName(), each.getValue() ?? ""])),
    entrypoint: words(file.getENTRYPOINTs()[0]),
    command: words(file.getCMDs()[0]),
    healthcheck: /CMD (\[.*\])/.exec(text("Dockerfile").split("HEALTHCHECK")[1]!)![1]!,
  };
})();
