"""Corpus BLEU by sacrebleu (Post 2018): 13a tokens, every reference of a text.

    echo '{"texts": ["..."], "references": [["...", "..."]]}' | python bleu.py      -> {"score": .., "signature": ".."}
"""
import json
import sys

from sacrebleu.metrics import BLEU

asked = json.load(sys.stdin)
most = max(map(len, asked["references"]))
# sacrebleu takes a list for each place among the references; None where a text has fewer.
columns = [[refs[at] if at < len(refs) else None for refs in asked["references"]] for at in range(most)]
metric = BLEU(tokenize="13a")
score = metric.corpus_score(asked["texts"], columns)
print(json.dumps({"score": score.score, "signature": str(metric.get_signature())}))
