import { readFileSync } from "node:fs";

const package_ = new URL("../package.json", import.meta.url);
export const version: string = JSON.parse(readFileSync(package_, "utf8")).version;
