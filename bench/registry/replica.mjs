/** A replica as a process: says when it has heard of each activation, and has read what is active now. */
import { openRedisRegistry } from "../../dist/registry/redis.js";

const registry = await openRedisRegistry(process.argv[2]);
registry.watch(async notice => {
  if (notice.kind !== "active") return;
  const { active_revision } = await registry.getTask(notice.id);
  process.send({ revision: active_revision, at: String(process.hrtime.bigint()) });
});
process.once("disconnect", () => registry.close().then(() => process.exit(0)));
process.send("watching");
