/**
 * Symbolic dimensions: a size is a number or a polynomial of names with whole coefficients, written `2*new*rows+past`.
 * Every function here gives its normal form (names and terms sorted), so equal sizes are equal strings.
 */
export type Dim = number | string;
export type Shape = readonly Dim[];

/** Coefficients by monomial: `new*rows` → 2; the constant term's monomial is empty. */
type Polynomial = ReadonlyMap<string, number>;

function read(dim: Dim): Polynomial {
  if (typeof dim === "number") return new Map([["", dim]]);
  const terms = new Map<string, number>();
  for (const term of dim.split("+")) {
    const factors = term.split("*");
    const names = factors.filter(factor => !/^\d+$/.test(factor)).sort();
    const scale = factors
      .filter(factor => /^\d+$/.test(factor))
      .reduce((product, one) => product * Number(one), 1);
    const monomial = names.join("*");
    terms.set(monomial, (terms.get(monomial) ?? 0) + scale);
  }
  return terms;
}

function write(polynomial: Polynomial): Dim {
  const terms = [...polynomial].filter(([, scale]) => scale !== 0).sort(([a], [b]) => (a < b ? -1 : 1));
  if (terms.every(([monomial]) => monomial === "")) return terms[0]?.[1] ?? 0;
  return terms
    .map(([monomial, scale]) => (monomial === "" ? scale : scale === 1 ? monomial : `${scale}*${monomial}`))
    .join("+");
}

export const normal = (dim: Dim): Dim => write(read(dim));

export function add(a: Dim, b: Dim): Dim {
  const sum = new Map(read(a));
  for (const [monomial, scale] of read(b)) sum.set(monomial, (sum.get(monomial) ?? 0) + scale);
  return write(sum);
}

export function multiply(...dims: Dim[]): Dim {
  let product: Polynomial = new Map([["", 1]]);
  for (const dim of dims) {
    const next = new Map<string, number>();
    for (const [a, scaleA] of product) {
      for (const [b, scaleB] of read(dim)) {
        const names = [a, b].filter(names => names !== "").flatMap(names => names.split("*"));
        const monomial = names.sort().join("*");
        next.set(monomial, (next.get(monomial) ?? 0) + scaleA * scaleB);
      }
    }
    product = next;
  }
  return write(product);
}

/** A size without sums as the sizes that it is the product of. */
export function factors(dim: Dim): Dim[] {
  const [[names, scale] = ["", 0], ...more] = [...read(dim)];
  if (more.length > 0) throw new Error(`${dim} is a sum`);
  const named = names === "" ? [] : names.split("*");
  return scale === 1 && named.length > 0 ? named : [scale, ...named];
}

/** The size with other sizes in place of some of its names. */
export function substitute(dim: Dim, sizes: Readonly<Record<string, Dim>>): Dim {
  let total: Dim = 0;
  for (const [monomial, scale] of read(dim)) {
    const names = monomial === "" ? [] : monomial.split("*");
    total = add(total, multiply(scale, ...names.map(name => sizes[name] ?? name)));
  }
  return total;
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
  const size = (name: string): number => {
    const known = sizes.get(name);
    if (known === undefined) throw new Error(`the size ${name} is not known`);
    return known;
  };
  let total = 0;
  for (const [monomial, scale] of read(dim)) {
    const names = monomial === "" ? [] : monomial.split("*");
    total += names.reduce((product, name) => product * size(name), scale);
  }
  return total;
}
