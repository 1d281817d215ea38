/** Between the runtime's tensors and TensorFlow.js's, which has 32-bit integers only. */
import type * as tfjs from "@tensorflow/tfjs-core";
import type { DataOf, DType } from "../graph/graph.ts";
import type { RuntimeTensor } from "./runtime.ts";

type TensorFlow = typeof tfjs;

const types = {
  float32: "float32",
  int64: "int32",
  bool: "bool",
  uint8: "int32",
  int8: "int32",
} as const satisfies Record<DType, tfjs.DataType>;

/** The type that TensorFlow.js keeps a value in. */
export const tfjsType = (type: DType) => types[type];

/** Int64 as int32. Throws RangeError on a number that does not fit: token ids, positions and sizes all do. */
export function narrow(data: BigInt64Array): Int32Array {
  const out = new Int32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const number = Number(data[i]);
    if (number !== (number | 0))
      throw new RangeError(`${data[i]} does not fit 32 bits, which TensorFlow.js has`);
    out[i] = number;
  }
  return out;
}

export function toTfjs(
  tf: TensorFlow,
  type: DType,
  dims: readonly number[],
  data: DataOf[DType],
): tfjs.Tensor {
  const values =
    type === "int64"
      ? narrow(data as BigInt64Array)
      : type === "int8" || type === "uint8"
        ? Int32Array.from(data as Int8Array | Uint8Array)
        : (data as Float32Array | Uint8Array);
  return tf.tensor(values, [...dims], types[type]);
}

/** A copy in the caller's hands. */
export function fromTfjs(type: DType, tensor: tfjs.Tensor): RuntimeTensor {
  const dims = [...tensor.shape];
  const values = tensor.dataSync();
  if (type === "float32") return { type, dims, data: Float32Array.from(values) };
  if (type === "bool" || type === "uint8") return { type, dims, data: Uint8Array.from(values) };
  if (type === "int8") return { type, dims, data: Int8Array.from(values) };
  return { type, dims, data: BigInt64Array.from(values as Int32Array, BigInt) };
}

/** Indices into an axis of `size`, negative ones counted from its end as ONNX does; throws RangeError outside it. */
export function readIndices(tensor: tfjs.Tensor, size: number): Int32Array {
  return Int32Array.from(tensor.dataSync(), index => {
    const at = index < 0 ? index + size : index;
    if (at < 0 || at >= size) throw new RangeError(`index ${index} is outside an axis of ${size}`);
    return at;
  });
}
