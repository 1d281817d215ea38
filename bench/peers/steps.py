"""Steps of PEFT's prompt tuning and prefix tuning: `python steps.py model.gguf`, told by bench/training/steps.ts.

Lines of JSON: first `{threads, rows, shapes}`, answered with `{}`; then `{method, dtype, steps}`, each answered with the
milliseconds of every step. A step is forward, backward, clipping and AdamW; the loss is that of a binary choice at each
row's last position, and only that position is projected to the vocabulary (objective.py).
"""
import json
import sys
import time

import torch

from model import load, optimiser, positions, wrap
from objective import loss

[gguf] = sys.argv[1:]
told = json.loads(sys.stdin.readline())
torch.set_num_threads(told["threads"])
torch.manual_seed(0)


def prepare(method, dtype):
    shape = told["shapes"][method]
    peft = wrap(load(gguf, dtype), method, shape["trained"], list(range(1000, 1000 + shape["trained"])))
    peft.train()
    decision = {"at": shape["input"] - 1, "candidates": [1123, 2645]}
    rows = [
        {
            "ids": torch.randint(1000, 40000, (shape["input"],)).tolist(),
            "decisions": [decision | {"weights": [index % 2, 1 - index % 2]}],
            "next": [],
        }
        for index in range(told["rows"])
    ]
    return peft, rows, positions(peft), *optimiser(peft, 1e-3)


ready = {(method, dtype): prepare(method, dtype) for method in told["shapes"] for dtype in ("float32", "bfloat16")}
print("{}", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    peft, rows, shift, adam, trained = ready[asked["method"], asked["dtype"]]
    times = []
    for _ in range(asked["steps"]):
        begun = time.perf_counter()
        found = loss(peft, rows, len(rows), shift)
        adam.zero_grad(set_to_none=True)
        found.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        times.append((time.perf_counter() - begun) * 1000)
    print(json.dumps({"milliseconds": times, "loss": found.item()}), flush=True)
