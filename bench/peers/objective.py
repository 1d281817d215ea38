"""The objective, the same as src/training/objective.ts: -log P of what rows ask for, and answers by it.

A row is `{ids, decisions, next}`. `decisions` are nodes of the label trie: after the token `at`, the rows of the vocabulary
named by `candidates` compete in a softmax of their own, each counting `weights` (a verbalizer of one token is one
decision at the label position; no other position and no other row of the vocabulary enters the loss). `next` are tokens
of an output, by the softmax over the whole vocabulary. Only positions that are asked for are projected.
"""
import heapq

import torch
from transformers import DynamicCache


def loss(peft, rows, examples, shift):
    """The mean over `examples` examples; `shift` is the number of virtual tokens in the model's output."""
    ids, mask = padded([row["ids"] for row in rows])
    asked = [(at["at"], line, at) for line, row in enumerate(rows) for at in row["decisions"] + row["next"]]
    kept = sorted({at for at, _, _ in asked})
    column = {at: index for index, at in enumerate(kept)}
    logits = peft(input_ids=ids, attention_mask=mask, logits_to_keep=torch.tensor(kept) + shift).logits
    total = 0.0
    decisions = [(line, column[at], one) for at, line, one in asked if "candidates" in one]
    for line, place, one in decisions:
        log_p = logits[line, place, one["candidates"]].float().log_softmax(-1)
        total = total - (log_p * torch.tensor(one["weights"])).sum()
    tokens = [(line, column[at], one) for at, line, one in asked if "token" in one]
    if tokens:
        lines, places = (torch.tensor([each[axis] for each in tokens]) for axis in (0, 1))
        log_p = logits[lines, places].float().log_softmax(-1)
        wanted = torch.tensor([one["token"] for _, _, one in tokens])
        weights = torch.tensor([one["weight"] for _, _, one in tokens])
        total = total - (log_p[torch.arange(len(tokens)), wanted] * weights).sum()
    return total / examples


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


class Answers:
    """Answers as serving would give them, behind a prompt's keys and values. Rows are padded at their end, where causal
    attention never looks, so that no mask is needed."""

    def __init__(self, peft, prefix, eos, batch=32):
        self.model, self.prefix, self.eos, self.batch = peft, prefix, eos, batch
        self.base = peft.get_base_model()

    def cache(self, rows):
        cache = DynamicCache()
        for layer, (key, value) in enumerate(self.prefix):
            cache.update(key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1), layer)
        return cache

    @torch.inference_mode()
    def branches(self, rows, candidates):
        """Log P of each row's own candidates after its last token."""
        found = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for at in range(0, len(order), self.batch):
            part = order[at : at + self.batch]
            ids, _ = padded([rows[index] for index in part])
            ends = [len(rows[index]) - 1 for index in part]
            kept = sorted(set(ends))
            output = self.base(
                input_ids=ids, past_key_values=self.cache(len(part)), use_cache=True, logits_to_keep=torch.tensor(kept)
            )
            for line, (index, end) in enumerate(zip(part, ends)):
                logits = output.logits[line, kept.index(end), candidates[index]].float()
                found[index] = logits.log_softmax(-1).tolist()
        return found

    def classify(self, rows, labels):
        """Indices of the best labels: best first over the trie; where every verbalizer is a branch of the root, a label's
        verbalizers are added up, deeper down its best one speaks for it."""
        root = trie(labels)
        if all(not child["children"] for child in root["children"].values()):
            tokens = list(root["children"])
            return [flat(dict(zip(tokens, scores)), root) for scores in self.branches(rows, [tokens] * len(rows))]
        open_ = [[(0.0, 0, [], root)] for _ in rows]
        answers, count = [None] * len(rows), 0
        while any(answer is None for answer in answers):
            asked = []
            for index, heap in enumerate(open_):
                while answers[index] is None:
                    score, _, path, node = heapq.heappop(heap)
                    if isinstance(node, int):
                        answers[index] = node
                    elif len(node["children"]) == 1 and node["end"] is None:
                        [(token, child)] = node["children"].items()
                        count += 1
                        heapq.heappush(heap, (score, count, path + [token], leaf(child)))
                    else:
                        asked.append((index, score, path, node))
                        break
            candidates = [list(node["children"]) + ([self.eos] if node["end"] is not None else []) for *_, node in asked]
            found = self.branches([rows[index] + path for index, _, path, _ in asked], candidates)
            for (index, score, path, node), scores in zip(asked, found):
                ways = [(path + [token], leaf(child)) for token, child in node["children"].items()]
                ways += [(path, node["end"])] if node["end"] is not None else []
                for (way, target), log_p in zip(ways, scores):
                    count += 1
                    heapq.heappush(open_[index], (score - log_p, count, way, target))
        return answers

    @torch.inference_mode()
    def generate(self, rows, most):
        """Greedy tokens without EOS. Rows of one length run together, and none is padded."""
        found = [[] for _ in rows]
        by_length = {}
        for index, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(index)
        groups = [each[at : at + self.batch] for each in by_length.values() for at in range(0, len(each), self.batch)]
        for group in groups:
            cache, done = self.cache(len(group)), set()
            ids = torch.tensor([rows[index] for index in group])
            for _ in range(most):
                logits = self.base(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
                chosen = logits[:, -1].argmax(-1).tolist()
                for index, token in zip(group, chosen):
                    if token == self.eos:
                        done.add(index)
                    elif index not in done:
                        found[index].append(token)
                if len(done) == len(group):
                    break
                ids = torch.tensor(chosen)[:, None]
        return found


def trie(labels):
    root = {"children": {}, "end": None}
    for index, label in enumerate(labels):
        for sequence in label["sequences"]:
            node = root
            for token in sequence:
                node = node["children"].setdefault(token, {"children": {}, "end": None})
            node["end"] = index
    return root


def leaf(node):
    """The label's index where nothing can follow."""
    return node if node["children"] else node["end"]


def flat(scores, root):
    totals = {}
    for token, log_p in scores.items():
        label = root["children"][token]["end"]
        totals[label] = totals.get(label, 0.0) + torch.tensor(log_p).exp().item()
    return max(totals, key=totals.get)
