import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeUnless } from "./left-out.ts";

const file = "smollm2-135m-instruct.q4_1.gguf";
const root = fileURLToPath(new URL("../..", import.meta.url));

/** SmolLM2-135M-Instruct as a GGUF file: from $FOREWORD_MIRROR, beside the repository, or in its data folder. */
export function smollm2Path(): string | null {
  const mirror = process.env.FOREWORD_MIRROR;
  const places = [
    ...(mirror ? [mirror] : []),
    join(root, "../shared/backbones"),
    join(root, "data/backbones"),
  ];
  return places.map(place => join(place, file)).find(path => existsSync(path)) ?? null;
}

/** A suite that needs the real backbone. */
export function describeBackbone(name: string, body: (path: string) => void): void {
  const path = smollm2Path();
  const advice = `${file} is missing: set FOREWORD_MIRROR to its folder, or put it into data/backbones.`;
  describeUnless(path === null ? advice : null, name, () => body(path!));
}
