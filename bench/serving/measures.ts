/** What is measured over HTTP: requests a second, or tokens a second, each as a function that takes one sample. */
import { load, type Product } from "../harness/product.ts";
import { registerTasks, subject, text } from "./workload.ts";

export const ROWS = 32;
const CLASSIFIED = 96;
const INPUT_TOKENS = 30;
const OUTPUT_TOKENS = 64;

export async function measures(product: Product) {
  const { mixed, stories } = await registerTasks(product);

  const classify = (tasks: readonly string[], count: number, atOnce: number) => async () => {
    const inputs = Array.from({ length: count }, () => text(INPUT_TOKENS));
    const seconds = await load(count, atOnce, index =>
      product.infer(tasks[index % tasks.length]!, { input: inputs[index]! }),
    );
    return count / seconds;
  };

  const generate = (count: number, atOnce: number) => async () => {
    const inputs = Array.from({ length: count }, subject);
    let tokens = 0;
    const seconds = await load(count, atOnce, async index => {
      const request = { input: inputs[index]!, max_tokens: OUTPUT_TOKENS };
      const { usage } = await product.infer(stories[index % stories.length]!, request);
      tokens += usage.output_tokens;
    });
    // An answer that ends early leaves the batch to the others: what is measured would not be what is named.
    if (tokens < 0.9 * count * OUTPUT_TOKENS) throw new Error(`only ${tokens} tokens came of ${count} texts`);
    return tokens / seconds;
  };

  return {
    "classify, no prompt": classify(["plain"], CLASSIFIED, ROWS),
    "classify, 100-token prompt": classify(["long"], CLASSIFIED, ROWS),
    "classify, one task": classify(["one"], CLASSIFIED, ROWS),
    "classify, eight tasks": classify(mixed, CLASSIFIED, ROWS),
    "classify, eight tasks, one at a time": classify(mixed, 24, 1),
    "generate, eight tasks": generate(ROWS, ROWS),
    "generate, eight tasks, one at a time": generate(4, 1),
  };
}
