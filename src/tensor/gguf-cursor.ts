/** More of the file is needed: the bytes given end within the head, the file does not. */
export class NeedMoreBytes extends Error {}

/** Bounds-checked little-endian reading. */
export class Cursor {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #fileSize: number;
  readonly #fail: (detail: string) => never;

  constructor(bytes: Uint8Array, fileSize: number, fail: (detail: string) => never) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fileSize = fileSize;
    this.#fail = fail;
  }

  /** The position before `length` bytes, which are passed. */
  #take(length: number): number {
    if (length > this.#fileSize - this.at) this.#fail("it ends within its head; fetch the whole file.");
    const at = this.at;
    if (at + length > this.#bytes.byteLength) throw new NeedMoreBytes();
    this.at += length;
    return at;
  }

  u8 = () => this.#view.getUint8(this.#take(1));
  i8 = () => this.#view.getInt8(this.#take(1));
  u16 = () => this.#view.getUint16(this.#take(2), true);
  i16 = () => this.#view.getInt16(this.#take(2), true);
  u32 = () => this.#view.getUint32(this.#take(4), true);
  i32 = () => this.#view.getInt32(this.#take(4), true);
  f32 = () => this.#view.getFloat32(this.#take(4), true);
  f64 = () => this.#view.getFloat64(this.#take(8), true);
  u64 = () => narrow(this.#view.getBigUint64(this.#take(8), true));
  i64 = () => narrow(this.#view.getBigInt64(this.#take(8), true));

  bool = (): boolean => {
    const byte = this.u8();
    if (byte > 1) this.#fail(`a boolean holds ${byte}.`);
    return byte === 1;
  };

  /** A 64-bit count of things that take at least `bytesEach` bytes of the file. */
  count(what: string, bytesEach: number): number {
    const count = this.u64();
    if (typeof count !== "number" || count * bytesEach > this.#fileSize - this.at) {
      return this.#fail(`it claims ${count} ${what}, more than its ${this.#fileSize} bytes can hold.`);
    }
    return count;
  }

  text = (): string => {
    const length = this.count("bytes of text", 1);
    const at = this.#take(length);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + at, length).toString("utf8");
  };
}

const narrow = (value: bigint): number | bigint =>
  value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
