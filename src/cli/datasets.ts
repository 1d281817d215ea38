import { Command } from "commander";
import type { Dataset } from "../contract/dataset.ts";
import { listOf } from "./remedy.ts";
import { call, listAll, print, route, type ServerFlags, serverOptions, table } from "./request.ts";
import { formatOption, remarks, type UploadOptions, upload } from "./upload.ts";

const labelsOf = ({ labels }: Dataset) => (labels === null ? "(outputs)" : Object.keys(labels).length);

export function datasets(): Command {
  const command = new Command("datasets").description(
    "list, show, add and delete a running server's data sets",
  );

  serverOptions(listOf(command))
    .description("list the data sets")
    .action(async (flags: ServerFlags) => {
      const reply = await listAll<Dataset>(flags, "/datasets");
      print(flags.json, reply, () =>
        table(
          ["data set", "rows", "labels", "created"],
          reply.items.map(each => [each.id, each.rows, labelsOf(each), each.created_at]),
        ),
      );
    });

  serverOptions(command.command("show <id>"))
    .description("show one data set, and how many rows each label has")
    .action(async (id: string, flags: ServerFlags) => {
      const dataset = await call<Dataset>(flags, "GET", route`/datasets/${id}`);
      const { labels, ...rest } = dataset;
      print(flags.json, dataset, () => {
        const fields = table(["", ""], Object.entries(rest));
        return labels === null ? fields : `${fields}\n${table(["label", "rows"], Object.entries(labels))}`;
      });
    });

  serverOptions(command.command("add <file>"))
    .description(
      'keep a file of examples: NDJSON such as {"input": "…", "label": "…"}, or CSV with a header; - is standard input',
    )
    .option("--id <id>", "its id; a data set that has it already gets these rows instead of its own")
    .addOption(formatOption())
    .option("--against <id>", "a data set used for training: tells which inputs are in both")
    .action(async (file: string, flags: ServerFlags & UploadOptions) => {
      const reply = await upload(flags, file, flags);
      print(flags.json, reply, () => remarks(file, reply));
    });

  serverOptions(command.command("delete <id>"))
    .description("delete a data set; jobs that use it keep its rows until they end")
    .action(async (id: string, flags: ServerFlags) => {
      await call(flags, "DELETE", route`/datasets/${id}`);
      print(flags.json, { deleted: id }, () => `${id} is deleted\n`);
    });
  return command;
}
