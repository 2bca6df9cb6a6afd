"""The speed baseline does what it says: same tokens, 128 long, eager, the teacher asked at every step, the
same objective."""

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertTokenizer

from benchmarks import plain_recipe
from modules import losses

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat ##s sat on un ##aff ##able mats mat , . cafe".split()
TEXTS = [
    ("The cats sat.", "Un-affable cat, on the Caf\u00e9 mats"),
    ("the mat", "zebra on the mat"),
    ("cat " * 90, "mat " * 80),
    ("sat", None),
]
LABELS = [0, 1, 1, 0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A teacher and a narrower-headed student of two layers, without dropout, so that losses can be
    compared."""
    found = []
    for seed, neurons in ((0, 32), (1, 8)):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=neurons,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.5,
        )
        folder = tmp_path_factory.mktemp("model")
        BertForSequenceClassification(config).save_pretrained(folder)
        BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(folder)
        found.append(str(folder))
    return found


@pytest.fixture
def calls(monkeypatch):
    """(training, gradients recorded, shape of the tokens, attention, maps requested) of every forward pass of
    a classifier."""
    seen, forward = [], BertForSequenceClassification.forward

    def spy(self, input_ids, **settings):
        output = forward(self, input_ids, **settings)
        attention = self.config._attn_implementation
        seen.append(
            (
                self.training,
                torch.is_grad_enabled(),
                tuple(input_ids.shape),
                attention,
                len(output.attentions),
            )
        )
        return output

    monkeypatch.setattr(BertForSequenceClassification, "forward", spy)
    return seen


def test_the_slow_tokenizer_agrees_with_the_fast_one(folders):
    slow, fast = plain_recipe.slow_tokenizer(folders[0]), AutoTokenizer.from_pretrained(folders[0])
    assert fast.is_fast and not slow.is_fast
    settings = {
        "truncation": "longest_first",
        "max_length": 128,
        "padding": "max_length",
        "return_token_type_ids": True,
    }
    for first, second in TEXTS[:2] + TEXTS[3:]:
        found, expected = slow(first, second, **settings), fast(first, second, **settings)
        assert dict(found) == dict(expected)
        assert len(found["input_ids"]) == 128


def test_finetuning_runs_as_described(folders, calls):
    found = plain_recipe.finetune_steps(folders[0], TEXTS, LABELS, 2, 5, learning_rate=1e-2)
    assert calls == [(True, True, (2, 128), "eager", 2)] * (5 + plain_recipe.NUM_WARMUP_STEPS)
    assert len(found["losses"]) == len(found["step_s"]) == 5
    per_example = 1 / found["training_examples_per_s"] + 1 / (
        found["tokenising_examples_per_s"] * plain_recipe.PUBLISHED_EPOCHS
    )
    assert found["examples_per_s"] == pytest.approx(1 / per_example)
    assert found["training_examples_per_s"] == pytest.approx(2 * 5 / sum(found["step_s"]))
    assert found["tokenising_share"] == pytest.approx(
        1 - found["examples_per_s"] / found["training_examples_per_s"]
    )


def test_finetuning_learns(folders):
    found = plain_recipe.finetune_steps(folders[0], TEXTS, LABELS, 4, 30, learning_rate=1e-2)
    assert found["losses"][-1] < 0.2 * found["losses"][0]


def test_distillation_asks_the_teacher_every_time(folders, calls):
    plain_recipe.distil_steps(*folders, TEXTS, LABELS, 2, 3)
    both = [(False, False, (2, 128), "eager", 2), (True, True, (2, 128), "eager", 2)]
    assert calls == both * (3 + plain_recipe.NUM_WARMUP_STEPS)


def test_distillation_has_the_objective_that_is_compared(folders):
    """With no dropout, no learning rate and all examples in each batch, every loss is that of
    modules/losses.py."""
    found = plain_recipe.distil_steps(*folders, TEXTS, LABELS, 4, 3, learning_rate=0.0)
    tokenizer = plain_recipe.slow_tokenizer(folders[0])
    rows = [tokenizer(*pair, truncation=True, max_length=128, return_token_type_ids=True) for pair in TEXTS]
    inputs = tokenizer.pad(rows, return_tensors="pt")
    with torch.no_grad():
        teacher, student = (
            BertForSequenceClassification.from_pretrained(folder).eval()(**inputs, output_hidden_states=True)
            for folder in folders
        )
    hidden = losses.hidden_states(
        student.hidden_states, teacher.hidden_states, inputs["attention_mask"].bool()
    )
    soft = losses.soft_label(student.logits, teacher.logits, kind="classification")
    assert found["losses"] == pytest.approx([float(hidden + soft) / 2] * 3, rel=1e-5)
