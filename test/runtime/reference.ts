/** Every operator once more, slowly and in doubles, straight from the specification's formulas: the tests' oracle. */
import type { Attributes, OperatorName } from "../../src/graph/operators.ts";

export interface Plain {
  readonly dims: readonly number[];
  readonly data: readonly number[];
}

const make = (dims: readonly number[], value: (at: number[]) => number): Plain => {
  const data: number[] = [];
  const walk = (at: number[]) => {
    if (at.length === dims.length) data.push(value(at));
    else for (let i = 0; i < dims[at.length]!; i++) walk([...at, i]);
  };
  walk([]);
  return { dims, data };
};

/** Element at `at`; missing leading axes and axes of size 1 are broadcast. */
const read = ({ dims, data }: Plain, at: readonly number[]): number => {
  let offset = 0;
  for (const [axis, size] of dims.entries()) {
    const index = at[at.length - dims.length + axis]!;
    offset = offset * size + (size === 1 ? 0 : index);
  }
  return data[offset]!;
};

const together = (...shapes: (readonly number[])[]): number[] => {
  const rank = Math.max(...shapes.map(shape => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map(shape => shape[axis - rank + shape.length] ?? 1);
    return sizes.find(size => size !== 1) ?? 1;
  });
};

const sum = (length: number, term: (i: number) => number) => {
  let total = 0;
  for (let i = 0; i < length; i++) total += term(i);
  return total;
};

const binary =
  (f: (a: number, b: number) => number) =>
  ([a, b]: Plain[]) => [make(together(a!.dims, b!.dims), at => f(read(a!, at), read(b!, at)))];

const unary =
  (f: (x: number) => number) =>
  ([x]: Plain[]) => [make(x!.dims, at => f(read(x!, at)))];

function product(a: Plain, b: Plain, alpha: number, transA: number, transB: number): Plain {
  const turned = (x: Plain, on: number) => (on ? swapLast(x) : x);
  const [left, right] = [turned(a, transA), turned(b, transB)];
  const batch = together(left.dims.slice(0, -2), right.dims.slice(0, -2));
  const [m, k, n] = [left.dims.at(-2)!, left.dims.at(-1)!, right.dims.at(-1)!];
  return make([...batch, m, n], at => {
    const [outer, row, column] = [at.slice(0, -2), at.at(-2)!, at.at(-1)!];
    return alpha * sum(k, i => read(left, [...outer, row, i]) * read(right, [...outer, i, column]));
  });
}

const swapLast = (x: Plain) =>
  make([...x.dims.slice(0, -2), x.dims.at(-1)!, x.dims.at(-2)!], at =>
    read(x, [...at.slice(0, -2), at.at(-1)!, at.at(-2)!]),
  );

const positive = (axis: number, x: Plain) => (axis < 0 ? axis + x.dims.length : axis);

/** The coordinates that share `at`'s leading axes, from `axis` on. */
const tails = (x: Plain, at: number[], axis: number): number[][] => {
  const found: number[][] = [];
  make(x.dims.slice(axis), rest => {
    found.push([...at.slice(0, axis), ...rest]);
    return 0;
  });
  return found;
};

const mean = (numbers: number[]) => sum(numbers.length, i => numbers[i]!) / numbers.length;

/** Abramowitz and Stegun 7.1.5: the series of erf. */
const erf = (x: number) => {
  let [term, total] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= -(x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
};

/** Sums `f` over the axes, which become 1. */
const reduce = (x: Plain, axes: readonly number[], f: (value: number) => number): Plain => {
  const gone = axes.map(axis => positive(axis, x));
  const dims = x.dims.map((size, axis) => (gone.includes(axis) ? 1 : size));
  return make(dims, at => {
    let total = 0;
    make(x.dims, from => {
      if (from.every((index, axis) => gone.includes(axis) || index === at[axis])) total += f(read(x, from));
      return 0;
    });
    return total;
  });
};

/** The largest or the smallest over the axes, which become 1. */
const extreme = (x: Plain, axes: readonly number[], pick: (...values: number[]) => number): Plain => {
  const gone = axes.map(axis => positive(axis, x));
  const dims = x.dims.map((size, axis) => (gone.includes(axis) ? 1 : size));
  return make(dims, at => {
    const group: number[] = [];
    make(x.dims, from => {
      if (from.every((index, axis) => gone.includes(axis) || index === at[axis])) group.push(read(x, from));
      return 0;
    });
    return pick(...group);
  });
};

type Reference<Op extends OperatorName> = (inputs: Plain[], attributes: Attributes[Op]) => Plain[];

export const reference: { readonly [Op in OperatorName]: Reference<Op> } = {
  Add: binary((a, b) => a + b),
  Sub: binary((a, b) => a - b),
  Mul: binary((a, b) => a * b),
  Div: binary((a, b) => a / b),
  Max: inputs => [
    make(together(...inputs.map(({ dims }) => dims)), at => Math.max(...inputs.map(x => read(x, at)))),
  ],
  Exp: unary(Math.exp),
  Sqrt: unary(Math.sqrt),
  Tanh: unary(Math.tanh),
  Erf: unary(erf),
  Where: ([c, a, b]) => [
    make(together(c!.dims, a!.dims, b!.dims), at => (read(c!, at) ? read(a!, at) : read(b!, at))),
  ],
  Gelu: (inputs, { approximate }) =>
    unary(x =>
      approximate === "tanh"
        ? 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
        : 0.5 * x * (1 + erf(x / Math.SQRT2)),
    )(inputs),
  Sigmoid: unary(x => 1 / (1 + Math.exp(-x))),
  Softmax: ([x], { axis }) => {
    const where = positive(axis, x!);
    return [
      make(
        x!.dims,
        at => Math.exp(read(x!, at)) / sum(x!.dims[where]!, i => Math.exp(read(x!, at.with(where, i)))),
      ),
    ];
  },
  LogSoftmax: ([x], { axis }) => {
    const where = positive(axis, x!);
    const total = (at: number[]) => sum(x!.dims[where]!, i => Math.exp(read(x!, at.with(where, i))));
    return [make(x!.dims, at => read(x!, at) - Math.log(total(at)))];
  },
  ReduceSum: ([x], { axes }) => [reduce(x!, axes, value => value)],
  ReduceSumSquare: ([x], { axes }) => [reduce(x!, axes, value => value ** 2)],
  ReduceMax: ([x], { axes }) => [extreme(x!, axes, Math.max)],
  ReduceMin: ([x], { axes }) => [extreme(x!, axes, Math.min)],
  QuantizeLinear: ([x, scale, zero], { axis }) => {
    const where = positive(axis, x!);
    const toEven = (value: number) => {
      const down = Math.floor(value);
      const rest = value - down;
      if (rest !== 0.5) return Math.round(value);
      return down % 2 === 0 ? down : down + 1;
    };
    return [
      make(x!.dims, at => {
        const [by, from] = [scale!.data[at[where]!]!, zero!.data[at[where]!]!];
        return Math.min(255, Math.max(0, toEven(read(x!, at) / by) + from));
      }),
    ];
  },
  MatMulIntegerToFloat: ([a, b, scaleA, scaleB, zeroA, zeroB]) => {
    const left = { dims: a!.dims, data: a!.data.map(value => value - zeroA!.data[0]!) };
    const right = { dims: b!.dims, data: b!.data.map(value => value - (zeroB?.data[0] ?? 0)) };
    const out = product(left, right, 1, 0, 0);
    return [make(out.dims, at => read(out, at) * scaleA!.data[0]! * scaleB!.data[at[1]!]!)];
  },
  GatherElements: ([data, indices], { axis }) => {
    const where = positive(axis, data!);
    return [
      make(indices!.dims, at => {
        const index = read(indices!, at);
        return read(data!, at.with(where, index < 0 ? index + data!.dims[where]! : index));
      }),
    ];
  },
  ScatterElements: ([data, indices, updates], { axis }) => {
    const where = positive(axis, data!);
    const size = data!.dims[where]!;
    return [
      make(data!.dims, at => {
        let total = read(data!, at);
        for (let i = 0; i < indices!.dims[where]!; i++) {
          const index = read(indices!, at.with(where, i));
          if ((index < 0 ? index + size : index) === at[where]) total += read(updates!, at.with(where, i));
        }
        return total;
      }),
    ];
  },
  Shape: ([x], { start, end }) => [{ dims: [end - start], data: x!.dims.slice(start, end) }],
  ArgMax: ([x], { axis }) => {
    const where = positive(axis, x!);
    const along = (at: number[]) =>
      Array.from({ length: x!.dims[where]! }, (_, i) => read(x!, at.with(where, i)));
    return [make(x!.dims.with(where, 1), at => along(at).indexOf(Math.max(...along(at))))];
  },
  MatMul: ([a, b]) => [product(a!, b!, 1, 0, 0)],
  FusedMatMul: ([a, b], { alpha, transA, transB }) => [product(a!, b!, alpha, transA, transB)],
  Gemm: ([a, b, bias], { transB }) => {
    const out = product(a!, b!, 1, 0, transB);
    return [make(out.dims, at => read(out, at) + (bias ? read(bias, at) : 0))];
  },
  Gather: ([data, indices], { axis }) => {
    const where = positive(axis, data!);
    const rank = indices!.dims.length;
    const dims = [...data!.dims.slice(0, where), ...indices!.dims, ...data!.dims.slice(where + 1)];
    return [
      make(dims, at => {
        const index = read(indices!, at.slice(where, where + rank));
        const from = index < 0 ? index + data!.dims[where]! : index;
        return read(data!, [...at.slice(0, where), from, ...at.slice(where + rank)]);
      }),
    ];
  },
  Expand: ([x], { shape }) => [make(shape.map(Number), at => read(x!, at))],
  Concat: (inputs, { axis }) => {
    const where = positive(axis, inputs[0]!);
    const total = sum(inputs.length, i => inputs[i]!.dims[where]!);
    return [
      make(inputs[0]!.dims.with(where, total), at => {
        let index = at[where]!;
        let part = 0;
        while (index >= inputs[part]!.dims[where]!) index -= inputs[part++]!.dims[where]!;
        // Not `read`: a part of size 1 would be broadcast, which its own index 0 makes the same.
        return read(inputs[part]!, at.with(where, index));
      }),
    ];
  },
  Split: ([x], { axis, sizes }) => {
    const where = positive(axis, x!);
    let begin = 0;
    return sizes.map(size => {
      const from = begin;
      begin += Number(size);
      return make(x!.dims.with(where, Number(size)), at => read(x!, at.with(where, at[where]! + from)));
    });
  },
  Transpose: ([x], { perm }) => [
    make(
      perm.map(axis => x!.dims[axis]!),
      at => {
        const from: number[] = [];
        for (const [i, axis] of perm.entries()) from[axis] = at[i]!;
        return read(x!, from);
      },
    ),
  ],
  Reshape: ([x], { shape }) => [{ dims: shape.map(Number), data: x!.data }],
  RMSNormalization: ([x, scale], { axis, epsilon }) => {
    const where = positive(axis, x!);
    return [
      make(x!.dims, at => {
        const square = mean(tails(x!, at, where).map(other => read(x!, other) ** 2));
        return (read(x!, at) / Math.sqrt(square + epsilon)) * read(scale!, at.slice(where));
      }),
    ];
  },
  LayerNormalization: ([x, scale, bias], { axis, epsilon }) => {
    const where = positive(axis, x!);
    return [
      make(x!.dims, at => {
        const group = tails(x!, at, where).map(other => read(x!, other));
        const centre = mean(group);
        const variance = mean(group.map(value => (value - centre) ** 2));
        const unit = (read(x!, at) - centre) / Math.sqrt(variance + epsilon);
        return unit * read(scale!, at.slice(where)) + (bias ? read(bias, at.slice(where)) : 0);
      }),
    ];
  },
  RotaryEmbedding: ([x, cos, sin, positions], { num_heads }) => {
    const headDim = x!.dims[2]! / num_heads;
    const half = headDim / 2;
    return [
      make(x!.dims, ([batch, token, column]) => {
        const position = positions!.data[batch! * x!.dims[1]! + token!]!;
        const within = column! % headDim;
        const [c, s] = [cos!, sin!].map(table => table.data[position * half + (within % half)]!);
        const own = read(x!, [batch!, token!, column!]);
        const partner = read(x!, [batch!, token!, within < half ? column! + half : column! - half]);
        return within < half ? own * c! - partner * s! : own * c! + partner * s!;
      }),
    ];
  },
};
