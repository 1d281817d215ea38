/** A ranking of starts says what they were ranked for, so that training can be asked for the same: on a tiny checkpoint. */
import { expect, onTestFinished, test } from "vitest";
import { drawDonors } from "../../src/cli/transfer-report.ts";
import { tinyBackbone } from "../support/tiny.ts";
import { expectProblem, files, startServer } from "./server.ts";

const labels = ["yes", "no"];
const examples = Array.from({ length: 24 }, (_, index) => ({
  input: `${index % 2 ? "rain" : "sun"} ${index}`,
  label: labels[index % 2]!,
}));

test("a report has the template that was asked for, and none of the task's own", async () => {
  const backbone = await tinyBackbone("llama", false);
  const server = await startServer(backbone.path, { precision: "fp32" });
  onTestFinished(async () => {
    await server.close();
    await backbone.remove();
  });
  for (const id of ["asked", "donor"])
    await server.task({ id, labels, prompt: { template: "Say {{ input }}\nSo:" } });
  await server.upload("donor", files.prefix(await server.backbone()));
  const reportOf = async (more: object) =>
    (await server.job("/tasks/asked/donors", { examples, ...more })).result;
  // Labels bring the space before them: a blank at the end is none of the template's.
  const other = await reportOf({ template: "So says {{ input }}: " });
  expect(other).toMatchObject({ method: "prefix", template: "So says {{ input }}:" });
  expect(drawDonors("asked", other)).toMatch(/ --template 'So says \{\{ input \}\}:'\n$/);
  expect(await reportOf({})).not.toHaveProperty("template");
  const one = examples.map(({ input }) => ({ input, label: "yes" }));
  const refused = await server.post("/tasks/asked/donors", { examples: one });
  expectProblem(refused, 422, "bad_dataset", { field: "examples" });
}, 60_000);
