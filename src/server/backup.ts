import { join, resolve } from "node:path";
import { Type } from "typebox";
import { Id, Timestamp } from "../contract/common.ts";
import type { Resource } from "./dependencies.ts";

const Request = Type.Union(
  [
    Type.Object({ name: Type.Optional(Id) }, { additionalProperties: false }),
    Type.Null({ description: "No body: the time is the name." }),
  ],
  { examples: [{ name: "monday" }] },
);
const Reply = Type.Object({
  folder: Type.String({ description: "On the server; it opens as a registry." }),
  created_at: Timestamp,
});

/** Backups go into the data folder alone: a caller names one, but cannot choose where on the machine it lies. */
export const backup: Resource = (app, { registry, config }) => {
  app.post(
    "/backups",
    {
      schema: {
        tags: ["status"],
        summary: "Copy the whole registry while it is in use",
        body: Request,
        response: { 201: Reply },
      },
    },
    async (request, reply) => {
      const created_at = new Date().toISOString();
      const name = request.body?.name ?? created_at.toLowerCase().replaceAll(":", "-");
      const folder = resolve(join(config.data, "backups", name));
      await registry.backup(folder);
      reply.code(201);
      return { folder, created_at };
    },
  );
};
