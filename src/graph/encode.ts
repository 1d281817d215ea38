import onnxProto from "onnx-proto";
import type { Constant, DType, Graph, Node, Value, Weight } from "./graph.ts";
import { operators, reshapeTarget } from "./operators.ts";

const { onnx } = onnxProto;

/** Opset 23 brings RMSNormalization and RotaryEmbedding; it needs IR version 11. */
const OPSETS = { "": 23, "com.microsoft": 1 } as const;
const IR_VERSION = 11;

const dataTypes: { readonly [Type in DType]: number } = {
  float32: onnx.TensorProto.DataType.FLOAT,
  int64: onnx.TensorProto.DataType.INT64,
  bool: onnx.TensorProto.DataType.BOOL,
  uint8: onnx.TensorProto.DataType.UINT8,
  int8: onnx.TensorProto.DataType.INT8,
};

/** Where the bytes of a weight lie, relative to the encoded model's own folder. */
export type LocateWeight = (name: string) => { location: string; offset: number; bytes: number };

/** The graph as an ONNX ModelProto (protobuf bytes). Weights are external data; constants are inside. */
export function encodeGraph(graph: Graph, locate: LocateWeight): Uint8Array {
  const shapes: Constant[] = [];
  const nodes = graph.nodes.map(node => encodeNode(node, shapes));
  const model = onnx.ModelProto.create({
    irVersion: IR_VERSION,
    producerName: "foreword",
    opsetImport: Object.entries(OPSETS).map(([domain, version]) => ({ domain, version })),
    graph: {
      name: graph.name,
      node: nodes,
      input: graph.inputs.map(valueInfo),
      output: graph.outputs.map(valueInfo),
      initializer: [
        ...[...graph.constants, ...shapes].map(inlineTensor),
        ...graph.weights.map(weight => externalTensor(weight, locate)),
      ],
    },
  });
  return onnx.ModelProto.encode(model).finish();
}

function encodeNode(node: Node, shapes: Constant[]) {
  const inputs = node.inputs.map(value => value?.name ?? "");
  const attributes: Record<string, unknown> = { ...node.attributes };
  /** Numbers that ONNX wants as a tensor; returns its name. */
  const inlined = (what: string, numbers: readonly number[]): string => {
    const name = `${node.outputs[0]!.name}:${what}`;
    shapes.push({ name, type: "int64", shape: [numbers.length], data: BigInt64Array.from(numbers, BigInt) });
    return name;
  };
  if (node.op === "Reshape") {
    // ONNX takes the target as a tensor: 0 keeps the input's size, -1 is found out; one from run time is meant literally.
    if (inputs.length === 2) attributes.allowzero = 1;
    else inputs.push(inlined("shape", reshapeTarget(node.inputs[0]!.shape, node.attributes.shape)));
    delete attributes.shape;
  }
  if ("axes" in node.attributes) {
    inputs.push(inlined("axes", node.attributes.axes));
    delete attributes.axes;
  }
  if (node.op === "Expand") delete attributes.shape;
  if (node.op === "Split") {
    if (inputs.length === 1) inputs.push(inlined("sizes", node.attributes.sizes as readonly number[]));
    delete attributes.sizes;
  }
  return {
    opType: node.op,
    domain: operators[node.op].domain,
    name: node.outputs[0]!.name,
    input: inputs,
    output: node.outputs.map(value => value.name),
    attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
  };
}

/** Attributes that ONNX declares as FLOAT; every other number is an INT. */
const floatAttributes = new Set(["epsilon", "alpha", "beta"]);

function attribute(name: string, value: unknown) {
  const { AttributeType } = onnx.AttributeProto;
  if (typeof value === "string")
    return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if (Array.isArray(value)) return { name, type: AttributeType.INTS, ints: value as number[] };
  if (floatAttributes.has(name)) return { name, type: AttributeType.FLOAT, f: value as number };
  return { name, type: AttributeType.INT, i: value as number };
}

const valueInfo = (value: Value) => ({
  name: value.name,
  type: {
    tensorType: {
      elemType: dataTypes[value.type],
      shape: {
        dim: value.shape.map(dim => (typeof dim === "number" ? { dimValue: dim } : { dimParam: dim })),
      },
    },
  },
});

const inlineTensor = ({ name, type, shape, data }: Constant) => ({
  name,
  dataType: dataTypes[type],
  dims: shape as number[],
  rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});

function externalTensor(weight: Weight, locate: LocateWeight) {
  const { location, offset, bytes } = locate(weight.name);
  const entry = (key: string, value: string | number) => ({ key, value: String(value) });
  return {
    name: weight.name,
    dataType: dataTypes[weight.type],
    dims: [...weight.shape],
    dataLocation: onnx.TensorProto.DataLocation.EXTERNAL,
    externalData: [entry("location", location), entry("offset", offset), entry("length", bytes)],
  };
}
