import { Command } from "commander";
import type { BackboneReport } from "../contract/backbone.ts";
import { call, print, type ServerFlags, serverOptions, table } from "./request.ts";

const MB = 1e6;

export const backbone = (): Command =>
  serverOptions(new Command("backbone"))
    .description(
      "show a running server's backbone, and what each precision costs and loses compared with fp32",
    )
    .action(async (flags: ServerFlags) => {
      const report = await call<BackboneReport>(flags, "GET", "/backbone");
      print(flags.json, report, () => `${about(report)}\n${precisions(report)}`);
    });

function about({ name, architecture, parameters, context, runtime, fingerprint }: BackboneReport): string {
  return table(
    ["backbone", name],
    [
      ["architecture", architecture],
      ["parameters", `${(parameters / MB).toFixed(1)} million`],
      ["context", `${context} positions`],
      ["runtime", `${runtime.name} ${runtime.version}, ${runtime.backend}, ${runtime.threads} threads`],
      ["fingerprint", fingerprint],
    ],
  );
}

function precisions({ precision: { active, training, table: rows } }: BackboneReport): string {
  const figure = (value: number | null) => (value === null ? "-" : value.toFixed(3));
  const use = (name: string) =>
    [name === active ? "serving" : "", name === training ? "training" : ""].filter(Boolean).join(", ");
  const learned = rows.flatMap(row => Object.entries(row.learned ?? {}));
  return [
    table(
      ["precision", "used for", "weights", "loss on text", "gradient cosine"],
      rows.map(row => [
        row.precision,
        use(row.precision),
        `${(row.bytes / MB).toFixed(0)} MB`,
        figure(row.text_loss),
        figure(row.gradient_cosine),
      ]),
    ),
    ...(learned.length > 0
      ? [
          "\n",
          table(
            ["trained on", "fp32", "int8"],
            learned.map(([task, { fp32, int8 }]) => [task, figure(fp32), figure(int8)]),
          ),
        ]
      : []),
  ].join("");
}
