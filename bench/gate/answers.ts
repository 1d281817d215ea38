/**
 * Whether trained prompts answer alike in int8 and in fp32: every bundled classification prompt on its development data,
 * by the engine that serves. The figures go into bench/results/answers.json.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readPromptFile } from "../../src/prompt/file.ts";
import { judge } from "../../src/training/evaluation/judge.ts";
import { accuracy, type Judged } from "../../src/training/evaluation/metrics.ts";
import { Shelf } from "../../src/training/shelf.ts";
import { picture } from "../harness/picture.ts";
import { type Check, check, publish } from "../harness/report.ts";
import { summarise } from "../harness/samples.ts";
import { readDataSet } from "../learning/data.ts";
import { libraryTasks } from "../prompts/candidates.ts";
import { gateCore, precisions } from "./core.ts";

const ALIKE = 0.98;
const methods = ["soft", "prefix"];

export async function answersAlike(folder: string, library: string): Promise<void> {
  const found = { fp32: new Map<string, Judged[]>(), int8: new Map<string, Judged[]>() };
  for (const precision of precisions) {
    const shelf = new Shelf();
    const opened = await gateCore(precision, shelf);
    for (const { id, dataset } of libraryTasks) {
      const { labels } = JSON.parse(readFileSync(join(library, id, "task.json"), "utf8"));
      for (const method of methods) {
        const path = join(library, id, `${method}.safetensors`);
        if (labels === null || !existsSync(path)) continue;
        const parameters = readFileSync(path);
        const prompts = [{ template: readPromptFile(parameters).template, parameters }];
        const judged = await judge(
          {
            core: opened.core,
            shelf,
            task: { labels },
            prompts,
            active: {},
          },
          readDataSet(folder, dataset).dev,
        );
        found[precision].set(`${id}, ${method}`, judged);
        console.log(`${precision}, ${id}, ${method}: ${accuracy(judged).toFixed(4)} of ${judged.length}`);
      }
    }
    await opened.close();
  }
  const checks: Check[] = [...found.fp32].map(([name, exact]) => {
    const coded = found.int8.get(name)!;
    const same = exact.filter(({ given }, index) => given === coded[index]!.given).length / exact.length;
    return check(`${name}: the same answers in int8 and fp32`, "of 1", [same], { floor: ALIKE });
  });
  await publish({
    name: "answers",
    command: "npm run bench -- gate --answers",
    checks,
    figures: Object.fromEntries(
      Object.entries(found).flatMap(([precision, all]) =>
        [...all].map(([name, judged]) => [`${name}, ${precision}`, summarise([accuracy(judged)])]),
      ),
    ),
    picture: picture("Trained prompts, int8 against fp32", checks),
  });
}
