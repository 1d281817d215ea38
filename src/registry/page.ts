/** Cursors: the key of a page's last item, opaque to callers, bound to the list that it came from. */
import { ForewordError } from "../errors.ts";
import type { Page, PageRequest } from "./registry.ts";
import type { Reader, StoreKey } from "./store.ts";

const defaultLimit = 50;
const maximumLimit = 1000;
/** Characters of an id. A longer text is no position, and might not fit into the store's key. */
const longest = 64;

type Position = string | number;

export function encodeCursor(list: string, last: Position): string {
  return Buffer.from(JSON.stringify([list, last])).toString("base64url");
}

/** Where the page before ended; undefined for the first. Throws `validation` for a foreign or damaged cursor. */
export function decodeCursor(list: string, cursor: string | undefined): Position | undefined {
  if (cursor === undefined) return undefined;
  let content: unknown;
  try {
    content = JSON.parse(Buffer.from(cursor, "base64url").toString());
  } catch {
    content = null;
  }
  if (Array.isArray(content) && content.length === 2 && content[0] === list) {
    const last: unknown = content[1];
    if (typeof last === "string" ? last.length <= longest : Number.isSafeInteger(last))
      return last as Position;
  }
  throw new ForewordError(
    "validation",
    "cursor is not one that this list gave; start again without a cursor.",
    {
      field: "cursor",
    },
  );
}

/** Items of a page. Throws `validation`. */
function sizeOf({ limit = defaultLimit }: PageRequest): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= maximumLimit) return limit;
  throw new ForewordError("validation", `limit is ${limit}; give 1 to ${maximumLimit}.`, { field: "limit" });
}

/** What has to be read for a page, to know whether another follows. */
export const oneMore = (request: PageRequest): number => sizeOf(request) + 1;

export function toPage<Item>(
  list: string,
  items: Iterable<Item>,
  position: (item: Item) => Position,
  request: PageRequest,
): Page<Item> {
  const limit = sizeOf(request);
  const page: Item[] = [];
  for (const item of items) {
    if (page.length === limit)
      return { items: page, next_cursor: encodeCursor(list, position(page[limit - 1]!)) };
    page.push(item);
  }
  return { items: page, next_cursor: null };
}

/** A page of the rows under a key; `position` is the last part of a row's own. */
export function pageOf<Row>(
  rows: Reader,
  list: string,
  prefix: StoreKey,
  position: (row: Row) => Position,
  page: PageRequest,
  { reverse = false } = {},
): Page<Row> {
  const range = { after: decodeCursor(list, page.cursor), limit: oneMore(page), reverse };
  return toPage(list, rows.values<Row>(prefix, range), position, page);
}

/** Every item of a list, page after page. */
export async function* itemsOf<Item>(list: (page: PageRequest) => Promise<Page<Item>>): AsyncGenerator<Item> {
  let cursor: string | null = null;
  do {
    const page: Page<Item> = await list({ limit: maximumLimit, ...(cursor !== null && { cursor }) });
    yield* page.items;
    cursor = page.next_cursor;
  } while (cursor !== null);
}
