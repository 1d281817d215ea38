import { type FileHandle, open } from "node:fs/promises";
import { ForewordError, type ProblemCode } from "../errors.ts";

/** Which problem a bad file is: `bad_tensor` for what a caller sends, `bad_backbone` for a model's files. */
export type FileProblem = Extract<ProblemCode, "bad_tensor" | "bad_backbone">;

/** One read system call takes at most 2 GiB. */
const readLimit = 2 ** 30;

/** Random access to a file: positional reads, so readers never disturb each other. */
export class FileBytes {
  readonly path: string;
  readonly size: number;
  readonly #handle: FileHandle;
  readonly #code: FileProblem;

  private constructor(path: string, size: number, handle: FileHandle, code: FileProblem) {
    this.path = path;
    this.size = size;
    this.#handle = handle;
    this.#code = code;
  }

  static async open(path: string, code: FileProblem): Promise<FileBytes> {
    let handle: FileHandle;
    try {
      handle = await open(path, "r");
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
      throw new ForewordError(code, `${path} cannot be opened (${reason}).`, {}, { cause });
    }
    const status = await handle.stat();
    if (!status.isFile()) {
      await handle.close();
      throw new ForewordError(code, `${path} is not a file.`);
    }
    return new FileBytes(path, status.size, handle, code);
  }

  /** Exactly `length` bytes from `offset`, in a buffer of their own. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const wanted = Math.min(readLimit, length - done);
      const { bytesRead } = await this.#handle.read(bytes, done, wanted, offset + done);
      if (bytesRead === 0) {
        throw new ForewordError(
          this.#code,
          `${this.path} ended at byte ${offset + done}: it was cut while being read. Fetch it again.`,
        );
      }
      done += bytesRead;
    }
    return bytes;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
