import { describe, expect, it } from "vitest";
import { parseRedisUrl } from "../../../src/registry/redis-url.ts";

const plain = {
  kind: "single",
  nodes: [{ host: "h", port: 6379 }],
  name: null,
  db: 0,
  user: null,
  password: null,
  sentinelUser: null,
  sentinelPassword: null,
  tls: null,
  wait: 0,
};

function refusal(url: string): string {
  try {
    parseRedisUrl(url);
  } catch (error) {
    return (error as Error).message;
  }
  return "accepted";
}

describe("where Redis is", () => {
  it.each([
    ["redis://h", {}],
    ["redis://h/", {}],
    ["redis://h:7/3", { nodes: [{ host: "h", port: 7 }], db: 3 }],
    ["redis://[::1]:7", { nodes: [{ host: "::1", port: 7 }] }],
    ["redis://ann:p%40%25w@h", { user: "ann", password: "p@%w" }],
    ["redis://:only@h", { password: "only" }],
    ["rediss://h?wait=2", { tls: {}, wait: 2 }],
    [
      "redis-sentinel://ann:pw@a,b:9/main/2?sentinel_user=s&sentinel_password=t",
      {
        kind: "sentinel",
        nodes: [
          { host: "a", port: 26379 },
          { host: "b", port: 9 },
        ],
        name: "main",
        db: 2,
        user: "ann",
        password: "pw",
        sentinelUser: "s",
        sentinelPassword: "t",
        wait: 1,
      },
    ],
    ["rediss-cluster://h?wait=0", { kind: "cluster", tls: {}, wait: 0 }],
    ["redis-cluster://h,i:1", { kind: "cluster", nodes: [...plain.nodes, { host: "i", port: 1 }], wait: 1 }],
  ])("%s", (url, expected) => expect(parseRedisUrl(url)).toEqual({ ...plain, ...expected }));

  it.each([
    ["http://h", /no address of a Redis/],
    ["redis://:secret@h:x", /odd port/],
    ["redis://:secret@h:0", /odd port.*1 to 65535/],
    ["redis-cluster://:secret@h:65535,h:65536", /odd port/],
    ["redis://:secret@[::1]:99999", /odd port/],
    ["redis://:secret@a,b", /redis-sentinel or redis-cluster/],
    ["redis://:secret@h/first", /database is no number/],
    ["redis-sentinel://:secret@h", /master's name is missing/],
    ["redis-cluster://:secret@h/1", /no numbered databases/],
    ["redis://:secret%@h", /%25/],
    ["redis://:secret@h?wait=x", /wait/],
    ["redis://:secret@h?waits=1", /option waits/],
    ["redis://:secret@h?ca=x", /rediss/],
    ["rediss://:secret@h?ca=/no/such", /ENOENT/],
  ])("refuses %s and does not tell its password", (url, reason) => {
    expect(refusal(url)).toMatch(reason);
    expect(refusal(url)).not.toContain("secret");
  });
});
