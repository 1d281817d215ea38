"""Writes a GGUF file's weights again as F16 (norms stay F32), so that llama.cpp runs the same numbers.

    python f16.py smollm2-135m-instruct.q4_1.gguf out.gguf        (needs PyPI's gguf and numpy)
"""
import sys

import numpy
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize

source, target = sys.argv[1:]
reader = GGUFReader(source)
writer = GGUFWriter(target, reader.get_field("general.architecture").contents())
for field in reader.fields.values():
    if field.name in ("general.architecture", "general.file_type") or field.name.startswith("GGUF."):
        continue
    kind, items = field.types[0], field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, field.contents(), kind, sub_type=items)
writer.add_file_type(LlamaFileType.MOSTLY_F16)
for tensor in reader.tensors:
    data = dequantize(tensor.data, tensor.tensor_type)
    if len(tensor.shape) == 1:
        writer.add_tensor(tensor.name, data.astype(numpy.float32))
    else:
        writer.add_tensor(tensor.name, data.astype(numpy.float16), raw_dtype=GGMLQuantizationType.F16)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
