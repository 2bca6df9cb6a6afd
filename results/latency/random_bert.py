"""Write a BERT-base for MRPC with random weights and another checkpoint's tokenizer: for its times, its answers mean nothing.

python results/latency/random_bert.py outputs/results/minidisc/mrpc/teacher/ckpt outputs/results/latency/bert_base/random
"""

import sys
from pathlib import Path


def main(source, target):
    """source: a checkpoint folder with a tokenizer.  target: the new folder; one that is there stays."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    if (Path(target) / "config.json").exists():
        return
    tokenizer = AutoTokenizer.from_pretrained(source)
    names = ("not_equivalent", "equivalent")
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **labels)).save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
