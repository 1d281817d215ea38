/** Jobs that have ended are many: they are listed, and forgotten, a portion at a time. */
import { setImmediate } from "node:timers/promises";
import type { PromptRecord } from "../contract/prompt.ts";
import { decodeCursor, oneMore, toPage } from "./page.ts";
import type { JobRecord, Page, PageRequest } from "./registry.ts";
import type { JobPlace, Reader, Store, StoreKey, TaskRow } from "./store.ts";

/** Rows that are read at once, and of jobs' records, which may be long, those that are read or removed. */
const ROWS = 1000;
const RECORDS = 20;

/** The job that made a prompt. A file that was sent may have anything for its recipe. */
export function jobOf({ recipe }: Pick<PromptRecord, "recipe">): string | undefined {
  const { job } = (recipe ?? {}) as { job?: unknown };
  return typeof job === "string" ? job : undefined;
}

/** Others have their turn between one portion and the next, where a store reads without waiting too. */
async function portion<Result>(store: Store, action: (rows: Reader) => Result): Promise<Result> {
  const read = await store.read(action);
  await setImmediate();
  return read;
}

const recordsOf = (rows: Reader, places: readonly JobPlace[]) =>
  rows.getAll<JobRecord>(places.map(({ id }) => ["job", id]));

/** Newest first; of a task's name those of the task that has it now, or of all that had it where none has. */
export async function listJobs(
  store: Store,
  { task, ...page }: PageRequest & { task?: string },
): Promise<Page<JobRecord>> {
  const list = `jobs/${task ?? ""}`;
  const wanted = oneMore(page);
  const found: { order: number; job: JobRecord }[] = [];
  let after = decodeCursor(list, page.cursor);
  do {
    const { jobs, last } = await portion(store, rows => behind(rows, after, wanted - found.length, task));
    found.push(...jobs);
    after = last;
  } while (after !== undefined && found.length < wanted);
  const { items, next_cursor } = toPage(list, found, ({ order }) => order, page);
  return { items: items.map(({ job }) => job), next_cursor };
}

/** At most `most` jobs, and the last place that was looked at, if there may be more behind it. */
function behind(rows: Reader, after: string | number | undefined, most: number, task: string | undefined) {
  const limit = task === undefined ? most : ROWS;
  const places = rows.values<JobPlace>(["job-order"], { after, reverse: true, limit });
  const mine = places.filter(place => task === undefined || place.task === task).slice(0, most);
  const now = task === undefined ? undefined : rows.get<TaskRow>(["task", task]);
  const jobs = recordsOf(rows, mine).flatMap((job, at) =>
    job && isOf(job, now) ? [{ order: mine[at]!.order, job }] : [],
  );
  const last = mine.length === most ? mine.at(-1) : places.length === limit ? places.at(-1) : undefined;
  return { jobs, last: last?.order };
}

/** Whether a job was for this task, and not for one that had its name before. */
const isOf = ({ born, created_at }: JobRecord, task: TaskRow | undefined): boolean =>
  task === undefined || (born === undefined ? created_at >= task.created_at : born === task.created_at);

/** Removes jobs that ended before then, unless a prompt's recipe names them: it is trained again by their requests. */
export async function forgetJobs(store: Store, before: string): Promise<void> {
  const ended = await endedJobs(store, before);
  if (ended.length === 0) return;
  const named = await namedJobs(store);
  const forgotten = ended.filter(({ id }) => !named.has(id));
  for (let from = 0; from < forgotten.length; from += RECORDS)
    await store.write(rows => {
      for (const { id, order } of forgotten.slice(from, from + RECORDS)) {
        // Another replica may have been faster, or another registry is in the place of this one.
        if (rows.get<JobPlace>(["job-order", order])?.id !== id) continue;
        rows.remove(["job", id]);
        rows.remove(["job-order", order]);
        rows.note("job", id);
      }
    });
}

/** Jobs lie in the order in which they came: behind one that came later than that none has ended before. */
async function endedJobs(store: Store, before: string): Promise<JobPlace[]> {
  const ended: JobPlace[] = [];
  for (let after: number | undefined; ; ) {
    const { places, jobs } = await portion(store, rows => {
      const places = rows.values<JobPlace>(["job-order"], { after, limit: RECORDS });
      return { places, jobs: recordsOf(rows, places) };
    });
    ended.push(...places.filter((_, at) => (jobs[at]?.ended_at ?? before) < before));
    const young = jobs.some(job => job && job.created_at >= before);
    if (young || places.length < RECORDS) return ended;
    after = places.at(-1)!.order;
  }
}

async function namedJobs(store: Store): Promise<Set<string | undefined>> {
  const named = new Set<string | undefined>();
  for await (const { id } of every<TaskRow>(store, ["task"], task => task.id))
    for await (const prompt of every<PromptRecord>(store, ["prompt", id], ({ version }) => version))
      named.add(jobOf(prompt));
  return named;
}

async function* every<Row>(
  store: Store,
  prefix: StoreKey,
  last: (row: Row) => string | number,
): AsyncGenerator<Row> {
  for (let after: string | number | undefined; ; ) {
    const rows = await portion(store, reader => reader.values<Row>(prefix, { after, limit: ROWS }));
    yield* rows;
    if (rows.length < ROWS) return;
    after = last(rows.at(-1)!);
  }
}
