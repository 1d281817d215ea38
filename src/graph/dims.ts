/**
 * Symbolic dimensions: a size is a number, or a name (`rows`), a product (`3*new`) or a sum (`past+new`) of such.
 * Two dimensions are equal when their normal forms are the same string.
 */
export type Dim = number | string;
export type Shape = readonly Dim[];

const factors = (dim: Dim): { scale: number; names: string[] } => {
  if (typeof dim === "number") return { scale: dim, names: [] };
  let scale = 1;
  const names: string[] = [];
  for (const part of dim.split(/\*(?![^(]*\))/)) {
    if (/^\d+$/.test(part)) scale *= Number(part);
    else names.push(part);
  }
  return { scale, names };
};

const normal = (scale: number, names: string[]): Dim => {
  if (scale === 0 || names.length === 0) return scale;
  const sorted = [...names].sort();
  return (scale === 1 ? sorted : [String(scale), ...sorted]).join("*");
};

export function multiply(...dims: Dim[]): Dim {
  let scale = 1;
  const names: string[] = [];
  for (const dim of dims) {
    const part = factors(typeof dim === "string" && /^[^(]*\+/.test(dim) ? `(${dim})` : dim);
    scale *= part.scale;
    names.push(...part.names);
  }
  return normal(scale, names);
}

export function add(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  if (a === 0) return b;
  if (b === 0) return a;
  if (a === b) return multiply(2, a);
  return `${a}+${b}`;
}

/** `a / b` where it is exact, else null: the size that stands for -1 in a reshape. */
export function divide(a: Dim, b: Dim): Dim | null {
  const over = factors(a);
  const under = factors(b);
  if (under.scale === 0 || over.scale % under.scale !== 0) return null;
  const names = [...over.names];
  for (const name of under.names) {
    const at = names.indexOf(name);
    if (at < 0) return null;
    names.splice(at, 1);
  }
  return normal(over.scale / under.scale, names);
}

/** NumPy broadcasting of two shapes; null where they do not fit. */
export function broadcast(a: Shape, b: Shape): Shape | null {
  const rank = Math.max(a.length, b.length);
  const out: Dim[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const x = a[axis - rank + a.length] ?? 1;
    const y = b[axis - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return null;
    out.push(x === 1 ? y : x);
  }
  return out;
}

export const showShape = (shape: Shape): string => `[${shape.join(", ")}]`;
