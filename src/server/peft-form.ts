/** An adapter of PEFT as a multipart form. */
import { createHash } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { ForewordError, invalid } from "../errors.ts";
import { pickled } from "../prompt/peft/pickle.ts";
import type { PeftUpload } from "../prompt/peft/read.ts";
import { templateLimits } from "../prompt/template.ts";
import { takeTheRest } from "./bodies.ts";

const parts = ["adapter_config.json", "adapter_model.safetensors", "template", "task_index"] as const;
type Part = (typeof parts)[number];

/**
 * Reads the whole form. A part is known by its name or by its file's name, so that both
 * `-F adapter_config.json=@…` and `-F file=@adapter_config.json` are understood.
 * Throws `validation`, `body_too_large`, and `bad_tensor` for a pickle.
 */
export async function readUpload(request: FastifyRequest, limit: number): Promise<PeftUpload> {
  if (Number(request.headers["content-length"] ?? 0) > limit) throw tooLarge(limit);
  const form = await readForm(request, limit);
  const config = form.get("adapter_config.json") ?? missing("adapter_config.json");
  const tensors = form.get("adapter_model.safetensors") ?? missing("adapter_model.safetensors");
  // A form's own fields come with line ends as CRLF, whatever they were (WHATWG HTML, multipart/form-data).
  const template = form.get("template")?.toString().replaceAll("\r\n", "\n");
  const task = form.get("task_index")?.toString().trim();
  if (task !== undefined && !/^\d{1,9}$/.test(task))
    throw invalid("task_index", `${JSON.stringify(task)} is no whole number from 0 on.`);
  return {
    config,
    tensors,
    ...(template !== undefined && { template }),
    ...(task !== undefined && { taskIndex: Number(task) }),
  };
}

/** What makes two uploads the same request. */
export const uploadContent = ({ config, tensors, ...rest }: PeftUpload): object => {
  const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  return { config: digest(config), tensors: digest(tensors), ...rest };
};

async function readForm(request: FastifyRequest, limit: number): Promise<Map<Part, Buffer>> {
  const form = new Map<Part, Buffer>();
  const limits = { fileSize: limit, fieldSize: templateLimits.bytes, files: 8, fields: 8, parts: 16 };
  const unknown: string[] = [];
  let bytes = 0;
  try {
    for await (const each of request.parts({ limits })) {
      const names = [each.fieldname, each.type === "file" ? each.filename : ""];
      const content = each.type === "file" ? await each.toBuffer() : bytesOf(each.value);
      if (each.type === "field" && each.valueTruncated) throw tooLarge(templateLimits.bytes);
      bytes += content.byteLength;
      if (bytes > limit) throw tooLarge(limit);
      if (names.some(name => /\.(bin|pt|pth)$/.test(name))) throw pickled();
      const part = parts.find(name => names.includes(name));
      if (!part) unknown.push(names.findLast(name => name) ?? "");
      else if (form.has(part)) throw invalid(part, "came twice. Send it once.");
      else form.set(part, content);
    }
  } catch (error) {
    takeTheRest(request);
    throw problem(error, limit);
  }
  if (unknown.length > 0)
    throw invalid(unknown[0]!, `is not known; the parts are ${parts.join(", ")}. Leave it out.`);
  return form;
}

/** A field that says it is JSON comes parsed. */
const bytesOf = (value: unknown): Buffer =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value));

function problem(error: unknown, limit: number): Error {
  if (error instanceof ForewordError) return error;
  const { code, message } = error as Error & { code?: string };
  if (code === "FST_REQ_FILE_TOO_LARGE") return tooLarge(limit);
  return new ForewordError(
    "validation",
    `The body is no multipart form of an adapter (${message}). Send ${parts.join(", ")}.`,
    { field: "body" },
  );
}

const tooLarge = (limit: number) =>
  new ForewordError(
    "body_too_large",
    `The form, or a part of it, has more than ${limit} bytes, the limit (FOREWORD_BODY_LIMIT; 1 MiB for a template). Raise the limit, or send less.`,
    { limit },
  );

const missing = (part: Part): never => {
  throw invalid(
    part,
    "is missing. Send both files that PEFT's save_pretrained wrote, as parts of these names.",
  );
};
