"""One run of a PEFT method: `python learn.py model.gguf run.json [--answers FILE]`, told by bench/learning/peer-run.ts.

On a GPU where torch has one, matrix products then in TF32. AdamW without decay, gradients clipped, linear warm-up and a half cosine, as Foreword's own. Lines of JSON come out:
`{"event": "log"}`, and at last `{"event": "done"}` with answers to `test` (indices of labels, or token ids), the
seconds that training took, and the device; `--answers` writes that last line into a file. With `looks` the run ends as soon as `looks.examples` are answered well enough: the clock
stands still meanwhile.
"""
import argparse
import json
import math
import os
import sys
import threading
import time

import torch

from model import keys_and_values, load, optimiser, positions, wrap
from objective import Answers, loss


def say(**message):
    print(json.dumps(message), flush=True)


def rate_at(step, run):
    if step < run["warmup"]:
        return (step + 1) / run["warmup"]
    done = (step - run["warmup"]) / max(1, run["steps"] - run["warmup"])
    return (1 + math.cos(math.pi * min(1, done))) / 2


def end_with_parent():
    """Nobody would hear of a run whose bench is gone."""
    sys.stdin.read()
    os._exit(1)


def answers(peft, run, rows):
    peft.eval()
    given = Answers(peft, keys_and_values(peft), run["eos"])
    found = given.classify(rows, run["labels"]) if run["labels"] else given.generate(rows, run["maxTokens"])
    peft.train()
    return found


class Clock:
    """Seconds of training alone."""

    def __init__(self):
        self.total, self.since = 0.0, time.perf_counter()

    def seconds(self):
        return self.total + time.perf_counter() - self.since

    def stop(self):
        self.total = self.seconds()

    def go(self):
        self.since = time.perf_counter()


def main():
    arguments = argparse.ArgumentParser()
    for name in ("gguf", "run", "--answers"):
        arguments.add_argument(name)
    given = arguments.parse_args()
    if given.answers is None:
        threading.Thread(target=end_with_parent, daemon=True).start()
    with open(given.run) as file:
        run = json.load(file)
    torch.manual_seed(run["seed"])
    model = load(given.gguf, run["dtype"])
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        torch.set_default_device("cuda")
        model = model.to("cuda")
    peft = wrap(model, run["method"], run["length"], run["start"])
    peft.train()
    shift = positions(peft)
    adam, trained = optimiser(peft, run["rate"])
    looks = run.get("looks")
    clock, told, looked = Clock(), 0.0, 0.0
    for step, batch in enumerate(run["batches"]):
        for group in adam.param_groups:
            group["lr"] = run["rate"] * (1.0 if looks else rate_at(step, run))
        examples = min(run["batchSize"], len(batch))
        found = loss(peft, [run["rows"][index] for index in batch], examples, shift)
        adam.zero_grad(set_to_none=True)
        found.backward()
        torch.nn.utils.clip_grad_norm_(trained, run["clip"])
        adam.step()
        seconds = clock.seconds()
        if seconds - told > 15 or step == len(run["batches"]) - 1:
            say(event="log", text=f"step {step + 1} of {run['steps']}: loss {found.item():.4f}, {seconds:.0f} s")
            told = seconds
        if looks and seconds - looked >= looks["everySeconds"]:
            clock.stop()
            right = answers(peft, run, [each["ids"] for each in looks["examples"]])
            share = sum(one == each["label"] for one, each in zip(right, looks["examples"])) / len(right)
            say(event="look", step=step + 1, seconds=seconds, accuracy=share)
            if share >= looks["target"] or seconds >= looks["limitSeconds"]:
                break
            looked = seconds
            clock.go()
    else:
        clock.stop()
    found = {
        "event": "done",
        "given": answers(peft, run, run["test"]) if run["test"] else [],
        "seconds": clock.total,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    if given.answers is None:
        say(**found)
    else:
        with open(given.answers, "w") as file:
            json.dump(found, file)


main()
