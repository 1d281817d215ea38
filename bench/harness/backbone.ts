import { pull } from "../../src/backbone/pull.ts";
import { dataFolder } from "./product.ts";

/** The default backbone's GGUF file: in the bench's data folder, pulled into it on first use. */
export function backboneFile(bench: string): Promise<string> {
  const mirror = process.env.FOREWORD_MIRROR;
  return pull("smollm2-135m", { data: dataFolder(bench), ...(mirror !== undefined && { mirror }) });
}
