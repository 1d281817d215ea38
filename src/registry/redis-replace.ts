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
  const pairs = tables.flatMap(({ old, table }) => [old, table, orderOf(old), orderOf(table)]);
  const written = [ready, names, ...tables.flatMap(({ table }) => [table, orderOf(table)])];
  const write = async (batch: readonly Row[]) => {
    await blobs.require([...new Set(batch.flatMap(({ key, row }) => blobsOf(key, row)))]);
    const pipeline = client.pipeline();
    for (const { key, row } of batch) {
      const table = keyOf(`${base}${key[0]}`);
      pipeline.hset(table, fieldOf(key), JSON.stringify(row)).zadd(orderOf(table), 0, fieldOf(key));
      for (const sha256 of new Set(blobsOf(key, row))) pipeline.hincrby(names, sha256, 1);
    }
    for (const key of written) pipeline.pexpire(key, NEW_MS);
    for (const [error] of (await connection.inTime(pipeline.exec(), LARGE_MS))!)
      if (error) throw toProblem(error);
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
      const keys = [ready, ...feedKeys, blobNames, names, ...pairs, ...empty];
      const said = await connection.write(
        replaceTables,
        keys,
        [5 + pairs.length, NEW_MS, news, id],
        LARGE_MS,
      );
      if (said === "gone") throw unavailable("What was to be put in is gone. Try again.");
      return said === "done";
    } finally {
      await connection.inTime(client.unlink(...written)).catch(() => {});
    }
  });
}
