import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type ConfigSources, loadConfig } from "../../src/config.ts";

const folder = mkdtempSync(join(tmpdir(), "foreword-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(content: unknown, encoding: BufferEncoding = "utf8"): string {
  const path = join(folder, `${Math.random()}.json`);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content), encoding);
  return path;
}

function refusal(sources: ConfigSources): string {
  try {
    loadConfig({ env: {}, ...sources });
  } catch (error) {
    return (error as Error).message;
  }
  return "accepted";
}

describe("settings", () => {
  it("have the contract's defaults", () => {
    expect(loadConfig({ env: {} })).toEqual({
      host: "127.0.0.1",
      port: 8080,
      data: "./data",
      backbone: "smollm2-135m",
      registry: "lmdb",
      jobs: "embedded",
      runtime: "onnx",
      precision: "auto",
      threads: availableParallelism(),
      trainThreads: availableParallelism(),
      cacheBytes: 536_870_912,
      batchTokens: 768,
      queue: 1024,
      bodyLimit: 16_777_216,
      timeoutMs: 60_000,
      logLevel: "info",
    });
  });

  it("come from flags over environment over file over default", () => {
    const file = fileOf({ port: 1, host: "file", queue: 7, batch_tokens: 9, logLevel: "debug" });
    const env = { FOREWORD_CONFIG: file, FOREWORD_PORT: "2", FOREWORD_HOST: "env" };
    expect(loadConfig({ env, flags: { port: "3" } })).toMatchObject({
      port: 3,
      host: "env",
      queue: 7,
      batchTokens: 9,
      logLevel: "debug",
      timeoutMs: 60_000,
    });
    const other = fileOf({ port: 5 });
    expect(loadConfig({ env: { FOREWORD_CONFIG: file }, flags: { config: other } })).toMatchObject({
      port: 5,
      host: "127.0.0.1",
    });
  });

  it("have jobs follow the registry, and refuse a queue that would not fit it", () => {
    const env = { FOREWORD_REGISTRY: "redis://localhost" };
    expect(loadConfig({ env })).toMatchObject({ registry: "redis://localhost", jobs: "bullmq" });
    expect(loadConfig({ env: { FOREWORD_JOBS: "embedded" } }).jobs).toBe("embedded");
    expect(refusal({ env: { ...env, FOREWORD_JOBS: "embedded" } })).toMatch(/jobs .*foreword worker/);
    expect(refusal({ env: { FOREWORD_JOBS: "bullmq" } })).toMatch(/jobs .*needs a Redis registry/);
  });

  it("treat empty environment strings and undefined flags as not given", () => {
    const env = { FOREWORD_PORT: "", FOREWORD_CONFIG: "", FOREWORD_ADMIN_KEY: "", FOREWORD_MIRROR: "" };
    const config = loadConfig({ env, flags: { host: undefined } });
    expect(config.port).toBe(8080);
    expect(config.host).toBe("127.0.0.1");
    expect(config).not.toHaveProperty("adminKey");
    expect(config).not.toHaveProperty("mirror");
  });

  it.each([
    ["536870912", 536_870_912],
    ["512MiB", 536_870_912],
    ["512 mib", 536_870_912],
    ["0.5GiB", 536_870_912],
    ["2kB", 2000],
    ["1GB", 1_000_000_000],
  ])("read the size %s", (size, bytes) => {
    expect(loadConfig({ env: { FOREWORD_CACHE_BYTES: size } }).cacheBytes).toBe(bytes);
    expect(loadConfig({ env: {}, flags: { bodyLimit: size } }).bodyLimit).toBe(bytes);
  });

  it.each([
    ["FOREWORD_PORT", "http", /port .*FOREWORD_PORT.*"http".*0 .*65535/],
    ["FOREWORD_PORT", "65536", /65535/],
    ["FOREWORD_PORT", "80.5", /65535/],
    ["FOREWORD_THREADS", "0", /threads .*1 to 1024/],
    ["FOREWORD_THREADS", "-1", /threads .*1 to 1024/],
    ["FOREWORD_QUEUE", "512MiB", /queue/],
    ["FOREWORD_CACHE_BYTES", "much", /cacheBytes .*512MiB/],
    ["FOREWORD_CACHE_BYTES", "5 parsecs", /cacheBytes .*512MiB/],
    ["FOREWORD_BODY_LIMIT", "1", /bodyLimit .*1024/],
    ["FOREWORD_RUNTIME", "torch", /runtime .*onnx, tfjs/],
    ["FOREWORD_PRECISION", "int3", /precision .*auto, fp32/],
    ["FOREWORD_LOG_LEVEL", "loud", /logLevel .*info/],
    ["FOREWORD_REGISTRY", "mysql://me:secret@localhost", /registry .*this value .*redis:\/\/host/],
    ["FOREWORD_ADMIN_KEY", "ключ", /adminKey .*this value .*ASCII/],
    ["FOREWORD_ADMIN_KEY", "secret\n", /adminKey .*this value .*line breaks/],
    ["FOREWORD_JOBS", "kafka", /jobs .*embedded, bullmq/],
  ])("refuse %s=%s, saying which, whence and what is allowed", (name, value, message) => {
    expect(refusal({ env: { [name]: value } })).toMatch(message);
    expect(refusal({ env: { [name]: value } })).toContain(`environment ${name}`);
  });

  it("refuse unknown names and wrong types in the file, and files that are none", () => {
    const unknown = fileOf({ prot: 1 });
    expect(refusal({ flags: { config: unknown } })).toMatch(/prot .*no such setting.*port/);
    expect(refusal({ flags: { config: unknown } })).toContain(unknown);
    expect(refusal({ flags: { config: fileOf({ port: null }) } })).toMatch(/port/);
    expect(refusal({ flags: { config: fileOf({ host: 5 }) } })).toMatch(/host/);
    expect(refusal({ flags: { config: fileOf("[1]") } })).toMatch(/one JSON object/);
    expect(refusal({ flags: { config: fileOf("{port: 1}") } })).toMatch(/JSON/);
    expect(refusal({ flags: { config: join(folder, "absent.json") } })).toMatch(/absent\.json/);
    expect(refusal({ flags: { unheard: 1 } as object })).toMatch(/flag --unheard/);
  });

  it("are read of a file with a byte order mark; one that is no UTF-8 is refused, with what to do", () => {
    expect(loadConfig({ env: {}, flags: { config: fileOf('\ufeff{"host": "hôte"}') } }).host).toBe("hôte");
    for (const file of [fileOf("\ufeff{}", "utf16le"), fileOf({ host: "hôte" }, "latin1")])
      expect(refusal({ flags: { config: file } })).toBe(
        `Setting config (file ${file}): it is no UTF-8: save it as UTF-8.`,
      );
  });

  it("never repeat a secret in an error", () => {
    const file = fileOf({ admin_key: { value: "hunter2" } });
    expect(refusal({ flags: { config: file } })).toMatch(/adminKey/);
    expect(refusal({ flags: { config: file } })).not.toContain("hunter2");
  });

  it.each([
    ['{\n  "adminKey": hunter2\n}', "line 2, column 15"],
    ['{"port": 1,\r\n"registry": "redis://:hunter2@h" "host"}', "line 2, column 34"],
    ['{"adminKey": "hunter2",}', "line 1, column 24"],
    ['{"adminKey": ["hunter2",]}', "line 1, column 25"],
    ['{"adminKey": "hunter2\n"}', "line 1, column 22"],
    ['{"adminKey": "hunter2"', "line 1, column 23"],
    ['{"adminKey": "hunter2', "line 1, column 22"],
    ['{"adminKey": "hunter2"} 1', "line 1, column 25"],
    ['{"position 99": hunter2}', "line 1, column 17"],
    ["hunter2", "line 1, column 1"],
    ["", "line 1, column 1"],
  ])("say where a file stops being JSON, and nothing of what it holds: %j", (content, place) => {
    const file = fileOf(content);
    expect(refusal({ flags: { config: file } })).toBe(
      `Setting config (file ${file}): it is no JSON from ${place} on.`,
    );
  });
});
