/**
 * Other rows in place of all that are there, while servers use them: the new tables are written beside the old ones, and
 * take their names in one step. Until then nothing has changed, and what was written expires by itself.
 */
import { randomUUID } from "node:crypto";
import { unavailable } from "./problems.ts";
import { blobNames, type RedisBlobs } from "./redis-blobs.ts";
import { LARGE_MS, type RedisConnection, toProblem } from "./redis-connection.ts";
import { feedKeys } from "./redis-feed.ts";
import { fieldOf, keyOf, orderOf } from "./redis-rows.ts";
import { replaceTables } from "./redis-scripts.ts";
import { blobsOf, type Row, rowKinds } from "./store.ts";

/** How long tables are kept that never took their names. */
const NEW_MS = 3_600_000;
/** Rows that are written at once. */
const BATCH = 200;

/** False, and nothing changed, where with `ifEmpty` there are rows other than marks. */
export function replaceRows(
  connection: RedisConnection,
  blobs: RedisBlobs,
  rows: AsyncIterable<Row>,
  ifEmpty: boolean,
): Promise<boolean> {
  const { client } = connection;
  const id = randomUUID();
  const base = `new:${id}:`;
  const ready = keyOf(`${base}ready`);
  const names = keyOf(`${base}names`);
  const tables = rowKinds.map(kind => ({ kind, old: keyOf(kind), table: keyOf(base + kind) }));
  const pairs = [[blobNames, names]];
  for (const { old, table } of tables) pairs.push([old, table], [orderOf(old), orderOf(table)]);
  /** How much was put into each new key. */
  const counts = new Map(pairs.map(([, key]) => [key!, 0]));
  const written = [ready, ...counts.keys()];
  const write = async (batch: readonly Row[]) => {
    await blobs.require([...new Set(batch.flatMap(({ key, row }) => blobsOf(key, row)))]);
    const pipeline = client.pipeline();
    const into: string[] = [];
    for (const { key, row } of batch) {
      const table = keyOf(`${base}${key[0]}`);
      pipeline.hset(table, fieldOf(key), JSON.stringify(row)).zadd(orderOf(table), 0, fieldOf(key));
      into.push(table, orderOf(table));
      for (const sha256 of new Set(blobsOf(key, row))) {
        pipeline.hincrby(names, sha256, 1);
        into.push(names);
      }
    }
    for (const key of written) pipeline.pexpire(key, NEW_MS);
    const replies = (await connection.inTime(pipeline.exec(), LARGE_MS))!;
    for (const [error] of replies) if (error) throw toProblem(error);
    // What is new is 1, of all three commands.
    for (const [at, key] of into.entries()) if (replies[at]![1] === 1) counts.set(key, counts.get(key)! + 1);
  };
  return blobs.held(async () => {
    try {
      let batch: Row[] = [];
      let news = "";
      for await (const row of rows) {
        const [kind, first] = row.key;
        if (kind === "task" || kind === "dataset" || kind === "job")
          news = JSON.stringify({ kind, id: first });
        if (batch.push(row) < BATCH) continue;
        await write(batch);
        batch = [];
      }
      await write(batch);
      await connection.inTime(client.set(ready, "yes", "PX", NEW_MS));
      const empty = tables.flatMap(({ kind, old }) => (ifEmpty && kind !== "mark" ? [old] : []));
      const keys = [ready, ...feedKeys, ...pairs.flat()];
      const wanted = [keys.length, NEW_MS, news, id, ...counts.values()];
      const said = await connection.write(replaceTables, [...keys, ...empty], wanted, LARGE_MS);
      if (said === "gone")
        throw unavailable("What was to be put in is not all there, and nothing was changed. Try again.");
      return said === "done";
    } finally {
      await connection.inTime(client.unlink(...written)).catch(() => {});
    }
  });
}
