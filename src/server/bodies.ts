/** What bodies are taken: JSON in UTF-8. A route that takes more says so itself. */
import type { FastifyRequest } from "fastify";
import { ForewordError } from "../errors.ts";
import type { App } from "./dependencies.ts";
import { malformed } from "./problems.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The caller reads the answer when its whole body has been taken. */
export function takeTheRest({ raw }: FastifyRequest): void {
  raw.unpipe();
  raw.resume();
}

export function installBodies(app: App): void {
  app.addHook("onRequest", async ({ headers }) => {
    const encoding = headers["content-encoding"] ?? "identity";
    if (encoding !== "identity")
      throw new ForewordError(
        "unsupported_media_type",
        `The content encoding ${encoding} is not taken. Send the body as it is.`,
      );
  });
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeContentTypeParser(["application/json", "text/plain"]);
  app.addContentTypeParser<Buffer>("application/json", { parseAs: "buffer" }, (request, body, done) => {
    let text: string;
    try {
      text = utf8.decode(body);
    } catch {
      // Read as UTF-8 all the same, text in another encoding would be answered as so many unknown characters.
      return done(malformed("its bytes are not UTF-8"));
    }
    parse(request, text, done);
  });
}
