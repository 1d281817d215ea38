/**
 * A graph of ONNX operators in static single assignment: plain immutable data, built by `GraphBuilder`, read by the
 * printer, the encoder and the runtimes. Values carry a type and a shape whose sizes may be symbolic.
 */
import type { Shape } from "./dims.ts";
import type { Attributes, OperatorName } from "./operators.ts";

export type DType = "float32" | "int64" | "bool" | "uint8" | "int8";

/** What a tensor of each type is stored in. */
export interface DataOf {
  float32: Float32Array;
  int64: BigInt64Array;
  bool: Uint8Array;
  uint8: Uint8Array;
  int8: Int8Array;
}
export type Data = DataOf[DType];

export interface Value {
  readonly name: string;
  readonly type: DType;
  readonly shape: Shape;
}

/** A constant small enough to live in the graph itself (reshape targets, rotary tables). */
export interface Constant extends Value {
  readonly data: Data;
}

/** A tensor of the backbone, by name: its bytes stay in a file, which the runtime maps or reads. */
export interface Weight extends Value {
  readonly type: "float32" | "int8" | "uint8";
  readonly shape: readonly number[];
}

export interface NodeOf<Op extends OperatorName> {
  readonly op: Op;
  /** An absent optional input is null. */
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  readonly attributes: Readonly<Attributes[Op]>;
}

/** A node of any operator; `op` tells which attributes it has. */
export type Node = { [Op in OperatorName]: NodeOf<Op> }[OperatorName];

export interface Graph {
  readonly name: string;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly constants: readonly Constant[];
  readonly weights: readonly Weight[];
  /** In an order in which every value is computed before it is read. */
  readonly nodes: readonly Node[];
}
