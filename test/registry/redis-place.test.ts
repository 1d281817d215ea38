/** Ways to Redis: a user with a password, TLS, Sentinels; replicas that confirm a write. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createLogger } from "../../src/observe/log.ts";
import { openRedisRegistry } from "../../src/registry/redis.ts";
import { describeRedis } from "../support/redis.ts";
import { RedisServer, startSentinel } from "../support/redis-server.ts";
import { hard, newTask } from "./records.ts";

describeRedis("a user with few rights", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await RedisServer.start();
    const rights = ["~{fw}*", "~fw:blob:*", "+@all", "-@admin", "-@dangerous", "+info"];
    await redis.admin.call("ACL", "SETUSER", "ann", "on", ">p@ss/word", ...rights);
  });
  afterAll(() => redis.remove());
  const url = (login: string) => redis.url.replace("//", `//${login}@`);

  test("keeps a registry", async () => {
    const registry = await openRedisRegistry(url("ann:p%40ss%2Fword"));
    const parameters = await registry.putBlob(new Uint8Array([1, 2]));
    await registry.createTask(newTask("t"), { ...hard(), kind: "prefix", parameters }, "ann");
    expect(await registry.changes(0)).toMatchObject({ last: 3, trimmed: false });
    expect(await registry.sweep()).toEqual({ blobs: 0, replies: 0 });
    await registry.close();
  });

  test("with a wrong password is refused at once, in words that do not tell it, in no log either", async () => {
    const began = Date.now();
    let logged = "";
    const log = createLogger("info", { write: line => (logged += line) });
    const refusal = await openRedisRegistry(url("ann:guessed"), { log }).catch(error => error);
    log.error({ err: refusal }, "the start failed");
    expect(logged).toMatch(/Redis can't be reached.*WRONGPASS.*the start failed/s);
    expect(logged).not.toContain("guessed");
    expect(refusal).toMatchObject({ code: "registry_unavailable" });
    expect(refusal.message).toMatch(/user and password in FOREWORD_REGISTRY/);
    expect(refusal.message).not.toContain("guessed");
    expect(Date.now() - began).toBeLessThan(3000);
  });
});

describeRedis("TLS", () => {
  test("is spoken, and the certificate checked", async () => {
    const folder = mkdtempSync(join(tmpdir(), "foreword-tls-"));
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
    const made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, ...subject];
    execFileSync("openssl", made, { stdio: "ignore" });
    const tls = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert];
    const settings = [...tls, "--tls-auth-clients", "no"];
    const redis = await RedisServer.start(settings, { tls: { ca: readFileSync(cert) } });
    try {
      const url = redis.url.replace("redis:", "rediss:");
      const registry = await openRedisRegistry(`${url}?ca=${encodeURIComponent(cert)}`);
      await registry.createTask(newTask("t"), hard(), "ann");
      expect((await registry.getTask("t")).prompts).toBe(1);
      await registry.close();
      await expect(openRedisRegistry(url)).rejects.toMatchObject({ code: "registry_unavailable" });
    } finally {
      await redis.remove();
      rmSync(folder, { recursive: true });
    }
  });
});

describeRedis("Sentinels", () => {
  test("name the master; a confirmed write outlives it, and one that no replica confirms is no success", async () => {
    const master = await RedisServer.start();
    const replica = await RedisServer.start(["--replicaof", `127.0.0.1 ${master.port}`]);
    const sentinel = await startSentinel(master);
    try {
      await vi.waitFor(
        async () => expect(await master.admin.info("replication")).toMatch(/slave0:.*state=online/),
        { timeout: 20_000 },
      );
      const registry = await openRedisRegistry(`redis-sentinel://127.0.0.1:${sentinel.port}/main`);
      const blob = await registry.putBlob(new Uint8Array([7]));
      await registry.createTask(newTask("t"), { ...hard(), kind: "prefix", parameters: blob }, "ann");
      // The Sentinel must know of the replica before it can make it the master.
      await new Promise(resolve => setTimeout(resolve, 1500));
      await master.stop();
      await vi.waitFor(async () => expect(await registry.getTask("t")).toMatchObject({ prompts: 1 }), {
        timeout: 30_000,
        interval: 200,
      });
      expect([...(await registry.getBlob(blob))]).toEqual([7]);
      const alone = vi.waitFor(
        () => expect(registry.createTask(newTask("u"), null, "ann")).rejects.toThrow(/0 of 1 replicas/),
        { timeout: 20_000 },
      );
      await alone;
      await registry.close();
    } finally {
      sentinel.remove();
      await Promise.all([master.remove(), replica.remove()]);
    }
  });
});
