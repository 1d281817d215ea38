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
  // Terms alike but for their factor become one: 2*new + new = 3*new.
  const terms = new Map<string, number>();
  for (const term of [...termsOf(a), ...termsOf(b)]) {
    const { scale, names } = factors(term);
    const key = names.join("*");
    terms.set(key, (terms.get(key) ?? 0) + scale);
  }
  const parts = [...terms]
    .filter(([, scale]) => scale !== 0)
    .map(([key, scale]) => normal(scale, key ? key.split("*") : []));
  return parts.length === 1 ? parts[0]! : parts.join("+");
}

const termsOf = (dim: Dim): Dim[] => (typeof dim === "number" ? [dim] : dim.split(/\+(?![^(]*\))/));

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

/** The size `a?` is `a` or 1, whichever the caller feeds: one row shared by all, or a row each. */
const joined = (x: Dim, y: Dim): Dim | null => {
  if (x === y || y === 1 || y === `${x}?`) return x;
  return x === 1 || x === `${y}?` ? y : null;
};

/** NumPy broadcasting of two shapes; null where they do not fit. */
export function broadcast(a: Shape, b: Shape): Shape | null {
  const rank = Math.max(a.length, b.length);
  const out: Dim[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const x = a[axis - rank + a.length] ?? 1;
    const y = b[axis - rank + b.length] ?? 1;
    const dim = joined(x, y);
    if (dim === null) return null;
    out.push(dim);
  }
  return out;
}

export const showShape = (shape: Shape): string => `[${shape.join(", ")}]`;

/** The sizes that names stand for in one run. */
export type Sizes = ReadonlyMap<string, number>;

/** The number that a dimension is in one run; throws where a name has no size. */
export function evaluate(dim: Dim, sizes: Sizes): number {
  if (typeof dim === "number") return dim;
  const known = sizes.get(dim);
  if (known !== undefined) return known;
  if (/^\d+$/.test(dim)) return Number(dim);
  const terms = dim.split(/\+(?![^(]*\))/);
  if (terms.length > 1) return terms.reduce((sum, term) => sum + evaluate(term, sizes), 0);
  const parts = dim.split(/\*(?![^(]*\))/);
  if (parts.length > 1) return parts.reduce((product, part) => product * evaluate(part, sizes), 1);
  if (dim.startsWith("(")) return evaluate(dim.slice(1, -1), sizes);
  throw new Error(`the size ${dim} is not known`);
}
