/** How many values a shape holds; 1 for a scalar's empty shape. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((count, dim) => count * dim, 1);
}

export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, at) => dim === b[at]);
}

/** A shape as people read it: `[2, 3]`. */
export function printDims(dims: readonly number[]): string {
  return `[${dims.join(", ")}]`;
}

/** [rows, columns] → [columns, rows]. */
export function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) out[column * rows + row] = data[row * columns + column]!;
  }
  return out;
}
