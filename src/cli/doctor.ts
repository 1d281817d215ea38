import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { availableParallelism, freemem, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import { Command } from "commander";
import type { Config } from "../config.ts";
import { print, table } from "./request.ts";
import { backboneOptions, settingsOf } from "./settings.ts";

interface Finding {
  check: string;
  ok: boolean;
  found: string;
}

const GiB = 2 ** 30;

export const doctor = (): Command =>
  backboneOptions(new Command("doctor"))
    .description("check that this machine can serve: Node, memory, disk, runtimes, backbone")
    .option("--json", "print the findings as JSON")
    .action(async ({ json, ...flags }) => {
      const config = await settingsOf(flags);
      const findings = [
        node(),
        memory(),
        await disk(config),
        await runtime("onnx"),
        await runtime("tfjs"),
        await backbone(config),
      ];
      print(json, findings, () =>
        table(
          ["", "check", "found"],
          findings.map(({ check, ok, found }) => [ok ? "ok" : "PROBLEM", check, found]),
        ),
      );
      if (findings.some(finding => !finding.ok)) process.exitCode = 1;
    });

function node(): Finding {
  const [major, minor] = process.versions.node.split(".").map(Number) as [number, number];
  return {
    check: "Node 20.6 or newer",
    ok: major > 20 || (major === 20 && minor >= 6),
    found: `${process.version}, ${availableParallelism()} cores`,
  };
}

const memory = (): Finding => ({
  check: "2 GiB of memory",
  ok: totalmem() >= 2 * GiB,
  found: `${(totalmem() / GiB).toFixed(1)} GiB, ${(freemem() / GiB).toFixed(1)} free`,
});

async function disk({ data }: Config): Promise<Finding> {
  // The folder may not be there yet.
  let place = resolve(data);
  while (!existsSync(place)) place = dirname(place);
  const { bavail, bsize } = await statfs(place);
  return {
    check: "1 GiB of free disk for the data folder",
    ok: bavail * bsize >= GiB,
    found: `${((bavail * bsize) / GiB).toFixed(1)} GiB`,
  };
}

async function runtime(name: "onnx" | "tfjs"): Promise<Finding> {
  const check = `runtime ${name}`;
  try {
    const { createRuntime } = await import("../runtime/create.ts");
    const { info } = await createRuntime(name, 1);
    return { check, ok: true, found: `${info.version}, backend ${info.backend}` };
  } catch (error) {
    return { check, ok: false, found: (error as Error).message };
  }
}

async function backbone({ backbone: name, data }: Config): Promise<Finding> {
  const check = `backbone ${name}`;
  const { checkName, resolveBackbone } = await import("../backbone/pull.ts");
  const path = await resolveBackbone(name, { data });
  try {
    if (path !== null) return { check, ok: true, found: await opened(path) };
    checkName(name);
  } catch (error) {
    return { check, ok: false, found: (error as Error).message };
  }
  return { check, ok: true, found: "not here yet: foreword pull fetches it, and so does the first start" };
}

/** What lies there, by its heads alone: weights are read when it is compiled. */
async function opened(path: string): Promise<string> {
  const { openBackbone } = await import("../backbone/source.ts");
  const { tokenizerOf } = await import("../backbone/tokenizer.ts");
  const source = await openBackbone(path);
  try {
    await tokenizerOf(source);
    return `${source.config.architecture}, ${path}`;
  } finally {
    await source.close();
  }
}
