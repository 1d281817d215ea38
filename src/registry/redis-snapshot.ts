/** Rows of one moment, read at leisure: the tables are copied inside Redis, in one step, and the copies read page by page. */
import { randomUUID } from "node:crypto";
import { unavailable } from "./problems.ts";
import { LARGE_MS, type RedisConnection } from "./redis-connection.ts";
import { keyOf, orderOf } from "./redis-rows.ts";
import { type Row, type RowKind, rowKinds, type StoreKey } from "./store.ts";

/** How long copies are kept that nobody reads any more. */
const COPY_MS = 600_000;
const PAGE = 500;

/** Those whose last part is a number. */
const numbered = new Set<RowKind>(["prompt", "history", "job-order"]);

function keyOfField(kind: RowKind, field: string): StoreKey {
  if (!numbered.has(kind)) return [kind, field];
  const at = field.lastIndexOf("/");
  return [kind, ...(at < 0 ? [] : [field.slice(0, at)]), Number(field.slice(at + 1))];
}

export async function* snapshotRows(connection: RedisConnection): AsyncGenerator<Row> {
  const { client } = connection;
  const base = `copy:${randomUUID()}:`;
  const copies = rowKinds.map(kind => ({
    kind,
    table: keyOf(base + kind),
    order: orderOf(keyOf(base + kind)),
  }));
  const keys = copies.flatMap(({ table, order }) => [table, order]);
  const copy = client.multi();
  for (const { kind, table, order } of copies) {
    copy.copy(keyOf(kind), table).copy(orderOf(keyOf(kind)), order);
    copy.pexpire(table, COPY_MS).pexpire(order, COPY_MS).zcard(order);
  }
  try {
    const replies = await connection.inTime(copy.exec(), LARGE_MS);
    for (const [error] of replies!) if (error) throw error;
    for (const [at, { kind, table, order }] of copies.entries()) {
      let left = replies![5 * at + 4]![1] as number;
      for (let from = "-"; left > 0; ) {
        const page = client.zrange(order, from, "+", "BYLEX", "LIMIT", 0, PAGE);
        const fields = (await connection.inTime(page, LARGE_MS)) as string[];
        const texts =
          fields.length > 0 ? await connection.inTime(client.hmget(table, ...fields), LARGE_MS) : [];
        if (fields.length === 0 || texts.includes(null))
          throw unavailable("The copy to be read is gone. Try again.");
        for (const [index, field] of fields.entries())
          yield { key: keyOfField(kind, field), row: JSON.parse(texts[index]!) };
        left -= fields.length;
        from = `(${fields.at(-1)}`;
      }
    }
  } finally {
    await connection.inTime(client.unlink(...keys)).catch(() => {});
  }
}
