import { finished, PassThrough, Readable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { Type } from "typebox";
import { Id, IdParams, Page, PageQuery } from "../contract/common.ts";
import { Dataset, DatasetFormat, type Example } from "../contract/dataset.ts";
import { MOST_LABELS } from "../contract/task.ts";
import { ForewordError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import { ExampleWriter, inputKey, Repetitions, refused } from "../training/examples.ts";
import { readExamples } from "../training/rows-of-text.ts";
import { takeTheRest } from "./bodies.ts";
import type { Resource } from "./dependencies.ts";
import { Repeatable } from "./headers.ts";
import { idempotent } from "./idempotency.ts";

/** A body of examples may be larger than other bodies: it is read line by line. Its rows stay in memory meanwhile. */
const LIMIT = 2 ** 28;
/** Line numbers that a reply lists. */
const LISTED = 20;
/** Bytes of a kept data set that are read between others' requests. */
const PART = 2 ** 18;

const Query = Type.Object({
  id: Type.Optional(Id),
  format: Type.Optional(DatasetFormat),
  against: Type.Optional(
    Type.String({ ...Id, description: "A data set that is trained on: the reply then lists shared inputs." }),
  ),
});

/** Nothing is checked before it is read. */
const Rows = Type.Unknown({ description: "Examples, a line each." });

const Lines = Type.Object({
  count: Type.Integer(),
  lines: Type.Array(Type.Integer(), { description: "The first of them." }),
});
const Created = Type.Object({
  ...Dataset.properties,
  duplicates: Lines,
  conflicts: Type.Object(Lines.properties, { description: "Inputs that came with another label before." }),
  leaks: Type.Optional(
    Type.Object(Lines.properties, { description: "Inputs that are in the data set `against` too." }),
  ),
});

export const datasets: Resource = (app, { registry }) => {
  // Lines of JSON are often sent as JSON: all that comes here is read line by line.
  app.removeContentTypeParser("application/json");
  app.addContentTypeParser("*", (_request, payload, done) => done(null, payload));

  app.post(
    "/datasets",
    {
      schema: {
        tags: ["datasets"],
        summary: "Keep examples: one JSON object a line, or CSV with a header",
        description:
          'Lines such as {"input": "…", "label": "…"} or {"input": {…}, "output": "…"}. CSV has a column "label" or "output"; one other column is the input, several are its fields. An id that is taken is given the new rows.',
        querystring: Query,
        headers: Repeatable,
        body: { content: { "application/x-ndjson": { schema: Rows }, "text/csv": { schema: Rows } } },
        response: { 201: Created },
      },
    },
    async (request, reply) => {
      const type = request.headers["content-type"] ?? "";
      const body = (request.body as Readable | undefined) ?? Readable.from([]);
      const written = new ExampleWriter();
      const repeated = new Repetitions();
      const counts = new LabelCounts();
      const { against } = request.query;
      const unread = (error: unknown): never => {
        takeTheRest(request);
        throw error;
      };
      const known = against === undefined ? null : await inputsOf(registry, against).catch(unread);
      const leaks: number[] = [];
      const read = await readExamples(
        bytesOf(body, type),
        request.query.format ?? (type.startsWith("text/csv") ? "csv" : "ndjson"),
        (example, line) => {
          counts.add(example, line);
          written.add(example, line);
          repeated.add(example, line);
          if (known?.has(inputKey(example))) leaks.push(line);
        },
      ).catch(unread);
      const bytes = written.bytes();
      const sha256 = await registry.putBlob(bytes);
      return idempotent(
        registry,
        request,
        reply,
        async commit => {
          const { id = `data-${sha256.slice(0, 12)}` } = request.query;
          const { length: rows } = read.examples;
          const labels = counts.found();
          const made = { id, rows, labels, sha256, bytes: bytes.byteLength };
          const dataset = await registry.putDataset(made, { commit });
          return {
            status: 201,
            headers: { Location: `/datasets/${id}` },
            body: {
              ...dataset,
              duplicates: listed(repeated.duplicates),
              conflicts: listed(repeated.conflicts),
              ...(known && { leaks: listed(leaks) }),
            },
          };
        },
        sha256,
      );
    },
  );

  app.get(
    "/datasets",
    {
      schema: {
        tags: ["datasets"],
        summary: "List data sets",
        querystring: PageQuery,
        response: { 200: Page(Dataset) },
      },
    },
    request => registry.listDatasets(request.query),
  );

  app.get(
    "/datasets/:id",
    { schema: { tags: ["datasets"], summary: "One data set", params: IdParams, response: { 200: Dataset } } },
    request => registry.getDataset(request.params.id),
  );

  app.delete(
    "/datasets/:id",
    {
      schema: {
        tags: ["datasets"],
        summary: "Delete a data set; jobs that were given it keep its rows until they end",
        params: IdParams,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      await registry.deleteDataset(request.params.id);
      return reply.code(204).send(null);
    },
  );
};

/** A stream of the same, whose reader may leave it early: the body itself would be destroyed, and its caller never told. */
function apart(body: Readable): Readable {
  const copy = new PassThrough();
  finished(body, { writable: false }, error => error && copy.destroy(brokenOff()));
  return body.pipe(copy);
}

const brokenOff = () =>
  new ForewordError("malformed_request", "The body broke off before its end. Send it again.");

/** Throws `unsupported_media_type` for a form, `body_too_large`, `malformed_request` where the body breaks off. */
async function* bytesOf(body: Readable, type: string): AsyncGenerator<Uint8Array> {
  if (type.startsWith("multipart/"))
    throw new ForewordError(
      "unsupported_media_type",
      "A form is not taken here. Send the file itself as the body, as curl --data-binary @file does.",
    );
  let bytes = 0;
  for await (const chunk of apart(body) as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > LIMIT)
      throw new ForewordError("body_too_large", `A data set has at most ${LIMIT} bytes. Send less.`, {
        limit: LIMIT,
      });
    yield chunk;
  }
}

/** The inputs of a data set that is kept, read a part at a time: others are served meanwhile. */
async function inputsOf(registry: Registry, id: string): Promise<Set<string>> {
  const { sha256 } = await registry.getDataset(id);
  const bytes = await registry.getBlob(sha256);
  const parts = async function* () {
    for (let at = 0; at < bytes.byteLength; at += PART) {
      yield bytes.subarray(at, at + PART);
      await turn();
    }
  };
  const inputs = new Set<string>();
  await readExamples(parts(), "ndjson", example => inputs.add(inputKey(example)));
  return inputs;
}

/** How many examples each label has; null where they have outputs. */
class LabelCounts {
  readonly #counts = new Map<string, number>();

  /** Throws `bad_dataset` at a label more than a task may have: the counts are part of every list of data sets. */
  add(example: Example, line: number): void {
    if (!("label" in example)) return;
    this.#counts.set(example.label, (this.#counts.get(example.label) ?? 0) + 1);
    if (this.#counts.size <= MOST_LABELS) return;
    const detail = `the examples up to here have more than ${MOST_LABELS} labels, which no task can have. If they are texts to write, call them output`;
    throw refused([{ line, detail }]);
  }

  found(): Record<string, number> | null {
    return this.#counts.size === 0 ? null : Object.fromEntries(this.#counts);
  }
}

const listed = (lines: readonly number[]) => ({ count: lines.length, lines: lines.slice(0, LISTED) });
