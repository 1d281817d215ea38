/**
 * Rows of one moment, read at leisure: the tables are copied inside Redis, in one step, and the copies read page by page.
 * Where Redis is too full for a copy they are read as they are, which must not change meanwhile.
 */
import { randomUUID } from "node:crypto";
import { unavailable } from "./problems.ts";
import { isFull, LARGE_MS, type RedisConnection, toProblem } from "./redis-connection.ts";
import { feedKeys } from "./redis-feed.ts";
import { keyOf, orderOf } from "./redis-rows.ts";
import { readPage } from "./redis-scripts.ts";
import { type Row, type RowKind, rowKinds, type StoreKey } from "./store.ts";

/** How long copies are kept that nobody reads any more; each page that is read keeps all of them for so long again. */
const COPY_MS = 600_000;
const PAGE = 500;

/** Those whose last part is a number. */
const numbered = new Set<RowKind>(["prompt", "history", "job-order"]);

function keyOfField(kind: RowKind, field: string): StoreKey {
  if (!numbered.has(kind)) return [kind, field];
  const at = field.lastIndexOf("/");
  return [kind, ...(at < 0 ? [] : [field.slice(0, at)]), Number(field.slice(at + 1))];
}

interface Table {
  kind: RowKind;
  table: string;
  order: string;
}

const tablesAt = (base: string): Table[] =>
  rowKinds.map(kind => ({ kind, table: keyOf(base + kind), order: orderOf(keyOf(base + kind)) }));

export async function* snapshotRows(connection: RedisConnection): AsyncGenerator<Row> {
  const copies = tablesAt(`copy:${randomUUID()}:`);
  const keys = copies.flatMap(({ table, order }) => [table, order]);
  try {
    const counts = await copyTables(connection, copies);
    if (counts) return yield* readTables(connection, copies, counts, keys);
  } finally {
    await connection.inTime(connection.client.unlink(...keys)).catch(() => {});
  }
  yield* readUnchanged(connection);
}

/** Rows a table; null where Redis is too full for a copy. */
async function copyTables(connection: RedisConnection, copies: readonly Table[]): Promise<number[] | null> {
  const copy = connection.client.multi();
  for (const { kind, table, order } of copies) {
    copy.copy(keyOf(kind), table).copy(orderOf(keyOf(kind)), order);
    copy.pexpire(table, COPY_MS).pexpire(order, COPY_MS).zcard(order);
  }
  try {
    const replies = await connection.inTime(copy.exec(), LARGE_MS);
    for (const [error] of replies!) if (error) throw toProblem(error);
    return copies.map((_, at) => replies![5 * at + 4]![1] as number);
  } catch (error) {
    if (isFull(error)) return null;
    throw error;
  }
}

/** The tables themselves, which hardly change in a full Redis: what it still takes is what makes room. */
async function* readUnchanged(connection: RedisConnection): AsyncGenerator<Row> {
  const { client } = connection;
  const seq = () => connection.inTime(client.get(feedKeys[0]!));
  const [before, tables] = [await seq(), tablesAt("")];
  const counts = await connection.inTime(Promise.all(tables.map(({ order }) => client.zcard(order))));
  yield* readTables(connection, tables, counts, []);
  if ((await seq()) !== before)
    throw unavailable("The registry changed while it was read, and Redis is too full for a copy. Try again.");
}

/** `kept` are the keys that must outlast the reading. */
async function* readTables(
  connection: RedisConnection,
  tables: readonly Table[],
  counts: readonly number[],
  kept: readonly string[],
): AsyncGenerator<Row> {
  for (const [at, { kind, table, order }] of tables.entries()) {
    let left = counts[at]!;
    for (let from = "-"; left > 0; ) {
      const page = await connection.run(readPage, [table, order, ...kept], [from, PAGE, COPY_MS], LARGE_MS);
      const [fields, texts] = page as [string[], (string | null)[]];
      if (fields.length === 0 || texts.includes(null))
        throw unavailable("What was to be read is gone. Try again.");
      for (const [index, field] of fields.entries())
        yield { key: keyOfField(kind, field), row: JSON.parse(texts[index]!) };
      left -= fields.length;
      from = `(${fields.at(-1)}`;
    }
  }
}
