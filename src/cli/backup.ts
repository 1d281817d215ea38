import { Command } from "commander";
import { call, print, type ServerFlags, serverOptions } from "./request.ts";

export const backup = (): Command =>
  serverOptions(new Command("backup"))
    .description(
      "copy a running server's registry into backups/ of its data folder; restore by putting it in place of registry/",
    )
    .argument("[name]", "the copy's name (default: the time)")
    .action(async (name: string | undefined, flags: ServerFlags) => {
      const reply = await call<{ folder: string }>(
        flags,
        "POST",
        "/backups",
        name === undefined ? {} : { name },
      );
      print(flags.json, reply, () => `${reply.folder}\n`);
    });
