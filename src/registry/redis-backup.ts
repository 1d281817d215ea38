/** A copy of a Redis registry as an embedded one (LMDB): rows of one moment, and the blobs that they name. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { BlobFolder } from "./blobs.ts";
import { LmdbStore } from "./lmdb-store.ts";
import type { RedisBlobs } from "./redis-blobs.ts";
import { LARGE_MS, type RedisConnection } from "./redis-connection.ts";
import { feedKeys } from "./redis-feed.ts";
import { keyOf } from "./redis-rows.ts";
import { blobsOf, type StoreKey } from "./store.ts";

const kinds = ["task", "prompt", "history", "dataset", "job", "job-order", "open-job", "mark"] as const;
type Kind = (typeof kinds)[number];

/** Those whose last part is a number. */
const numbered = new Set<Kind>(["prompt", "history", "job-order"]);

function keyOfField(kind: Kind, field: string): StoreKey {
  if (!numbered.has(kind)) return [kind, field];
  const at = field.lastIndexOf("/");
  return [kind, ...(at < 0 ? [] : [field.slice(0, at)]), Number(field.slice(at + 1))];
}

export async function backupRedis(
  connection: RedisConnection,
  blobs: RedisBlobs,
  folder: string,
): Promise<void> {
  await blobs.held(async () => {
    const snapshot = connection.client.multi().get(feedKeys[0]!);
    for (const kind of kinds) snapshot.hgetall(keyOf(kind));
    const replies = await connection.inTime(snapshot.exec(), LARGE_MS);
    const [seq, ...tables] = replies!.map(([error, reply]) => {
      if (error) throw error;
      return reply;
    });
    const rows = kinds.flatMap((kind, at) =>
      Object.entries(tables[at] as Record<string, string>).map(([field, text]) => ({
        key: keyOfField(kind, field),
        row: JSON.parse(text) as unknown,
      })),
    );

    await mkdir(join(folder, "blobs"), { recursive: true });
    const copies = new BlobFolder(join(folder, "blobs"));
    const named = new Set(rows.flatMap(({ key, row }) => blobsOf(key, row)));
    for (const sha256 of named) await copies.put(await blobs.get(sha256));
    const copy = await LmdbStore.open(folder);
    try {
      await copy.write(() => {
        for (const { key, row } of rows) copy.put(key, row);
        // The feed begins anew: whoever followed the original reloads.
        copy.put(["seq"], Number(seq ?? 0));
      });
    } finally {
      await copy.close();
    }
  });
}
