/** A process that backs a registry up. */
import { openLmdbRegistry } from "../../src/registry/lmdb.ts";

const [folder, target] = process.argv.slice(2) as [string, string];
const registry = await openLmdbRegistry(folder);
await registry.backup(target);
await registry.close();
