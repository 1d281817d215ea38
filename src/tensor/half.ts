/**
 * The 16-bit floats: IEEE 754 binary16 and bfloat16. Files hold them little-endian, as is every machine Node.js runs on.
 */
const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The value of every binary16 bit pattern: a look-up is several times faster than arithmetic. */
export const halfValues: Float32Array = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
});

/** binary16 bits of the nearest value, ties to even; above 65504 infinity. */
export function toHalf(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal in binary16: a whole number of 2^-24, rounded by the addition's own ties-to-even.
    scratch[0] = Math.abs(value) + 0.5;
    return sign | (scratchBits[0]! - 0x3f000000);
  }
  const rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return sign | ((rounded - 0x38000000) >> 13);
}

export function decodeHalf(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0; at < out.length; at++) out[at] = halfValues[bytes[2 * at]! | (bytes[2 * at + 1]! << 8)]!;
}

/** bfloat16 is the upper half of a binary32. */
export function decodeBfloat(bytes: Uint8Array, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let at = 0; at < out.length; at++) bits[at] = (bytes[2 * at]! << 16) | (bytes[2 * at + 1]! << 24);
}

export function decodeFloat(bytes: Uint8Array, out: Float32Array): void {
  new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes.subarray(0, out.byteLength));
}
