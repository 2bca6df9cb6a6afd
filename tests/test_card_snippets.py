"""The lines of Python in cards, for every kind of task: run as they stand in a folder, they say label names
and probabilities; those of graphs say the same."""

import contextlib
import io

import pytest
import torch
from transformers import BertConfig

from models import architectures, exporting, saving
from utils import card_snippets
from utils.batch import Batch
from utils.files import read_json

NAMES = ("O", "B-PER", "I-PER")
SETTINGS = {  # kind: settings of its config
    "classification": {"problem_type": "single_label_classification"},
    "multilabel": {"problem_type": "multi_label_classification"},
    "regression": {"problem_type": "regression", "num_labels": 1},
    "tagging": {},
    "spans": {"num_labels": 2},
    None: {},
}


class Rows:
    """Two texts as a split."""

    def __init__(self, tokenizer):
        texts = [card_snippets.SENTENCE, card_snippets.SECOND]
        self.inputs = dict(tokenizer(texts, padding=True, return_tensors="pt"))

    def in_order(self, batch_size):
        return [[0, 1]]

    def collate(self, rows):
        return Batch({name: tensor[rows] for name, tensor in self.inputs.items()}, None, rows)


def build(kind, tokenizer):
    """A tiny BERT with the head of a kind of task."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    named = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    named = named if kind in ("classification", "multilabel", "tagging") else {}
    positions = {"max_position_embeddings": 40, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    stock = architectures.stock_class("bert", kind)
    config = BertConfig(
        vocab_size=len(tokenizer), **sizes, **positions, **named, **SETTINGS[kind], initializer_range=0.5
    )
    return stock(config).eval()


def said(folder, monkeypatch, **options):
    """What the lines print, word by word in lines."""
    monkeypatch.chdir(folder)
    config = read_json(folder / "config.json")
    lines = card_snippets.snippet(config, max_length=16, **options)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec("\n".join(lines), {})
    return [line.split() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("kind", SETTINGS)
def test_lines_of_each_kind(kind, demo_tokenizer, tmp_path, monkeypatch):
    saving.save_model(build(kind, demo_tokenizer), tmp_path, tokenizer=demo_tokenizer)
    found = said(tmp_path, monkeypatch, pair=kind == "classification")
    if kind is None:
        assert found[0][0] == "torch.Size([1,"
    elif kind == "regression":
        assert len(found) == 1 and len(found[0]) == 1 and float(found[0][0]) == float(found[0][0])
    else:
        assert all(0 <= float(words[-1]) <= 1 for words in found) and (found or kind == "tagging")
        assert kind == "spans" or {words[-2] for words in found} <= {*NAMES, "PER"}
        assert len(found) == {"classification": 1, "multilabel": 3, "spans": 1}.get(kind, len(found))


@pytest.mark.parametrize("kind", ["multilabel", "tagging", "spans"])
def test_lines_of_graphs(kind, demo_tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    model = build(kind, demo_tokenizer)
    options = {"tokenizer": demo_tokenizer, "task_kind": kind, "batch_size": 2}
    exporting.export(model, "onnx", tmp_path / "onnx", Rows(demo_tokenizer), **options)
    found = said(
        tmp_path / "onnx", monkeypatch, pair=False, graph=exporting.GRAPH, disabled=exporting.NOT_FUSED
    )
    saving.save_model(model, tmp_path / "torch", tokenizer=demo_tokenizer)
    expected = said(tmp_path / "torch", monkeypatch, pair=False)
    if kind == "tagging":  # the pipeline joins tokens and leaves O out
        tokens = demo_tokenizer(card_snippets.WORDS, truncation=True, max_length=16)["input_ids"]
        assert len(found) == len(tokens) and {words[1] for words in found} <= {*NAMES}
        return
    found, expected = (sorted((words[:-1], float(words[-1])) for words in each) for each in (found, expected))
    assert [words for words, _ in found] == [words for words, _ in expected]
    assert all(abs(one - other) < 1e-5 for (_, one), (_, other) in zip(found, expected))
