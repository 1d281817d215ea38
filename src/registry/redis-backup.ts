/**
 * A copy of a Redis registry as an embedded one (LMDB): rows of one moment, and the blobs that they name. The blobs come
 * last: they take their time, and what the rows are read from doesn't last.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { BlobFolder } from "./blobs.ts";
import { LmdbStore } from "./lmdb-store.ts";
import type { RedisBlobs } from "./redis-blobs.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { feedKeys } from "./redis-feed.ts";
import { snapshotRows } from "./redis-snapshot.ts";
import { blobsOf, type Row } from "./store.ts";

/** Rows that are written at once. */
const BATCH = 500;

export async function backupRedis(
  connection: RedisConnection,
  blobs: RedisBlobs,
  folder: string,
): Promise<void> {
  await blobs.held(async () => {
    await mkdir(join(folder, "blobs"), { recursive: true });
    const copies = new BlobFolder(join(folder, "blobs"));
    const copy = await LmdbStore.open(folder);
    const named = new Set<string>();
    try {
      let batch: Row[] = [];
      const write = () =>
        copy.write(() => {
          for (const { key, row } of batch) copy.put(key, row);
          batch = [];
        });
      for await (const row of snapshotRows(connection)) {
        for (const sha256 of blobsOf(row.key, row.row)) named.add(sha256);
        if (batch.push(row) === BATCH) await write();
      }
      await write();
      // The feed begins anew: whoever followed the original reloads.
      const seq = await connection.inTime(connection.client.get(feedKeys[0]!));
      await copy.write(() => copy.put(["seq"], Number(seq ?? 0)));
      for (const sha256 of named) await copies.put(await blobs.get(sha256));
    } finally {
      await copy.close();
    }
  });
}
