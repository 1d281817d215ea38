"""PEFT and transformers, asked in lines of JSON: python peer.py. Every line is {"call": …} and is answered by one line."""
import json
import sys
from pathlib import Path

root = Path(__file__).parents[2]
sys.path += [str(root / "test/fixtures/peft"), str(root / "bench/peers")]

import make  # noqa: E402
import model as peers  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402


def gguf(path, folder):
    """A GGUF file's numbers in fp32, and its tokenizer, as a Hugging Face directory."""
    peers.read(path).save_pretrained(folder)
    source = Path(path)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)


calls = {"backbone": make.backbone, "gguf": gguf, "make": make.make, "log_p": make.log_p, "adapters": make.listed}

for line in sys.stdin:
    request = json.loads(line)
    answer = calls[request.pop("call")](**request)
    print(json.dumps({"answer": answer}), flush=True)
