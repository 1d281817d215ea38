import { expect, test } from "vitest";
import { PrefixCache } from "../../../src/engine/prefix-cache.ts";

const sized = (bytes: number) => async () => ({ bytes });
async function use(cache: PrefixCache, key: string, bytes: number): Promise<boolean> {
  const { hit, release } = await cache.acquire(key, sized(bytes));
  release();
  return hit;
}

test("the least recently used goes first, by bytes", async () => {
  const cache = new PrefixCache(100);
  await use(cache, "a", 40);
  await use(cache, "b", 40);
  expect(await use(cache, "a", 40)).toBe(true);
  await use(cache, "c", 40);
  expect(cache.bytes).toBe(80);
  expect(await use(cache, "a", 40)).toBe(true);
  expect(await use(cache, "b", 40)).toBe(false);
});

test("what is in use stays, even above the limit", async () => {
  const cache = new PrefixCache(50);
  const pinned = await cache.acquire("a", sized(40));
  await use(cache, "b", 40);
  expect(await use(cache, "a", 40)).toBe(true);
  pinned.release();
  pinned.release();
  await use(cache, "c", 40);
  expect(cache.bytes).toBeLessThanOrEqual(50);
  expect(await use(cache, "a", 40)).toBe(false);
});

test("room for what is expected is made before it is there, and what is pinned is counted", async () => {
  const cache = new PrefixCache(100);
  await use(cache, "a", 40);
  const b = await cache.acquire("b", sized(40));
  const filling = cache.acquire("c", sized(50), undefined, 60);
  expect([cache.bytes, cache.pinned]).toEqual([100, 100]);
  expect([cache.isPinned("a"), cache.isPinned("c")]).toEqual([false, true]);
  const c = await filling;
  expect([cache.bytes, cache.pinned]).toEqual([90, 90]);
  b.release();
  expect([cache.bytes, cache.pinned]).toEqual([90, 50]);
  c.release();
  await expect(cache.acquire("d", () => Promise.reject(new Error("no")), undefined, 50)).rejects.toThrow();
  expect([cache.bytes, cache.pinned]).toEqual([50, 0]);
});

test("concurrent misses fill once", async () => {
  const cache = new PrefixCache(100);
  let fills = 0;
  const fill = async () => {
    fills++;
    await new Promise(resolve => setTimeout(resolve, 5));
    return { bytes: 10 };
  };
  const all = await Promise.all(Array.from({ length: 8 }, () => cache.acquire("a", fill)));
  expect(fills).toBe(1);
  expect(new Set(all.map(({ value }) => value)).size).toBe(1);
  expect(all.filter(({ hit }) => hit)).toHaveLength(7);
});

test("a failure reaches everyone who waits, and is not kept", async () => {
  const cache = new PrefixCache(100);
  const fail = () => Promise.reject(new Error("no"));
  const both = await Promise.allSettled([cache.acquire("a", fail), cache.acquire("a", fail)]);
  expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(cache.size).toBe(0);
  expect(await use(cache, "a", 10)).toBe(false);
});

test("a filling is wanted while one of those who asked waits, then given up: who comes later begins anew", async () => {
  const cache = new PrefixCache(100);
  let wanted = () => true;
  let giveUp = () => {};
  const filling = new Promise<{ bytes: number }>((_, reject) => {
    giveUp = () => reject(new Error("nobody waits"));
  });
  const waiting = { first: true, second: true };
  const fill = (still: () => boolean) => {
    wanted = still;
    return filling;
  };
  const left = [
    cache.acquire("a", fill, () => waiting.first),
    cache.acquire("a", fill, () => waiting.second),
  ];
  waiting.first = false;
  expect(wanted()).toBe(true);
  waiting.second = false;
  expect(wanted()).toBe(false);
  const anew = await cache.acquire("a", sized(10));
  expect(anew.hit).toBe(false);
  waiting.first = true;
  expect(wanted()).toBe(false);
  giveUp();
  const ends = await Promise.allSettled(left);
  expect(ends.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(cache.bytes).toBe(10);
  anew.release();
  expect(await use(cache, "a", 10)).toBe(true);
});

test("what is forgotten in use goes when the last one releases it: a key names a content, so it stays right", async () => {
  const cache = new PrefixCache(100);
  const first = await cache.acquire("a", sized(10));
  cache.forget("a");
  const second = await cache.acquire("a", sized(10));
  expect(second.hit).toBe(true);
  first.release();
  expect(cache.bytes).toBe(10);
  second.release();
  expect(cache.bytes).toBe(0);
  expect(await use(cache, "a", 10)).toBe(false);
});

test("what is forgotten while it is filled is not kept", async () => {
  const cache = new PrefixCache(100);
  let finish = (_: { bytes: number }) => {};
  const acquiring = cache.acquire(
    "a",
    () =>
      new Promise<{ bytes: number }>(resolve => {
        finish = resolve;
      }),
  );
  cache.forget("a");
  finish({ bytes: 10 });
  (await acquiring).release();
  expect(cache.bytes).toBe(0);
  expect(await use(cache, "a", 10)).toBe(false);
});
