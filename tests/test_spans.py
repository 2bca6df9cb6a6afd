"""Spans: the search and the answers beside nested loops, windows, labels, losses; logits are made up
throughout."""

import json
import math

import numpy as np
import pytest
import tiny_squad
import torch
from transformers import BertTokenizer, PreTrainedTokenizerFast

from data import tasks
from data.model_tokenizer import load_tokenizer
from data.readers import Examples
from data.squad.best_spans import best_spans
from data.squad.question_split import NO_SPAN, Answers, SpanOptions
from data.tokenising import tokenise_examples
from modules import losses
from modules.filters import divergence
from utils import flags
from utils.batch import Batch
from utils.errors import RunError

SQUAD = tasks.get("squad2")


def encode(examples, tokenizer, *, max_length=384, **options):
    return tokenise_examples(
        examples,
        tokenizer,
        task=SQUAD,
        max_length=max_length,
        spans=SpanOptions(**{**flags.SPANS, **options}),
    )


# ---- The search


def pairs_in_loops(start, end, num_best, max_answer_length):
    """[(first, last, score)] of one window, as the published code finds them."""
    starts = sorted(range(len(start)), key=lambda i: (-start[i], i))[:num_best]
    ends = sorted(range(len(end)), key=lambda i: (-end[i], i))[:num_best]
    found = []
    for first in starts:
        for last in ends:
            score = start[first] + end[last]
            if first <= last < first + max_answer_length and score > -np.inf:
                found.append((first, last, float(score)))
    return sorted(found, key=lambda span: -span[2])[:num_best]


def test_search_equals_nested_loops():
    """Few decimals make many equal scores, so that the order of equal ones is tested; -inf is what cannot be
    chosen."""
    draw = np.random.default_rng(0)
    for case in range(150):
        windows, tokens, decimals = 5, int(draw.integers(1, 60)), int(draw.integers(0, 4))
        num_best, longest = int(draw.integers(1, 25)), int(draw.integers(1, 20))
        start, end = (
            np.round(draw.normal(size=(windows, tokens)) * 3, decimals).astype(np.float32) for _ in range(2)
        )
        start[:, : draw.integers(0, tokens)] = -np.inf
        found = best_spans(start, end, num_best=num_best, max_answer_length=longest)
        assert all(part.shape == (windows, num_best) for part in found)
        for window in range(windows):
            rows = [
                (int(a), int(b), float(s))
                for a, b, s in zip(*(part[window] for part in found))
                if s > -np.inf
            ]
            assert rows == pairs_in_loops(start[window], end[window], num_best, longest), case


def test_search_in_chunks(monkeypatch):
    draw = np.random.default_rng(1)
    start, end = draw.normal(size=(2, 50, 30)).astype(np.float32)
    whole = best_spans(start, end, num_best=5, max_answer_length=4)
    monkeypatch.setattr("data.squad.best_spans._CHUNK", 7)
    for one, other in zip(whole, best_spans(start, end, num_best=5, max_answer_length=4)):
        assert np.array_equal(one, other)


# ---- Windows


def expected_rows(tokenizer, question, context, *, max_length, stride):
    return tokenizer(
        question.lstrip(),
        context,
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_tokenizer(tiny_squad.encoder(tmp_path_factory.mktemp("bert")))


def made_up(tmp_path, number=6, **changes):
    content = tiny_squad.content(number, 3)
    (tmp_path / "squad2").mkdir()
    (tmp_path / "squad2" / "dev-v2.0.json").write_text(json.dumps(content))
    examples = SQUAD.read(tmp_path, "dev")
    for name, change in changes.items():
        setattr(examples, name, [change(value) for value in getattr(examples, name)])
    return examples


def test_windows_equal_the_tokenizers_own(bert, tmp_path):
    examples = made_up(tmp_path, first=lambda text: "  " + text)
    split, row = encode(examples, bert, max_length=24, doc_stride=5), 0
    for number, (question, context) in enumerate(zip(examples.first, examples.second)):
        expected = expected_rows(bert, question, context, max_length=24, stride=5)
        assert len(expected["input_ids"]) > 1
        for ids, types in zip(expected["input_ids"], expected["token_type_ids"]):
            inputs = split.collate([row]).inputs
            assert inputs["input_ids"][0].tolist() == ids and inputs["token_type_ids"][0].tolist() == types
            assert split._owners[row] == number
            row += 1
    assert row == len(split) and split.num_truncated == 0


@pytest.mark.parametrize("split_name", ["train", "dev"])
def test_real_files(data_dir, encoder_dir, split_name):
    """Rows as transformers makes them; every token of every context in a window, neighbours share doc_stride
    tokens; the label's characters are the answer's, or its whole words where the tokenizer does not cut them;
    no answer is lost."""
    tokenizer, examples = load_tokenizer(encoder_dir), SQUAD.read(data_dir, split_name)
    split = encode(examples, tokenizer)
    for number in np.random.default_rng(0).choice(len(examples), 60, replace=False):
        rows = np.flatnonzero(split._owners == number)
        expected = expected_rows(
            tokenizer, examples.first[number], examples.second[number], max_length=384, stride=128
        )
        assert [split.collate([row]).inputs["input_ids"][0].tolist() for row in rows] == expected["input_ids"]
    begins, sizes, labels = split._begins, split._sizes, split._labels
    following = split._owners[1:] == split._owners[:-1]
    assert (begins[:-1] + sizes[:-1] - begins[1:])[following].tolist() == [
        128
    ] * following.sum() and following.sum() > 90
    covered = np.zeros(len(split._offsets), bool)
    for begin, size in zip(begins, sizes):
        covered[begin : begin + size] = True
    assert covered.all()
    answered, cut = set(), 0
    for row in np.flatnonzero(labels[:, 0] != split._cls):
        number = split._owners[row]
        first, last = labels[row] - split._context_starts[row] + begins[row]
        text = examples.second[number][split._offsets[first, 0] : split._offsets[last, 1]]
        gold = examples.labels[number][0][1]
        assert gold in text
        cut += text != gold
        answered.add(number)
    assert answered == {number for number, gold in enumerate(examples.labels) if gold} and cut < 0.01 * len(
        answered
    )


def test_labels_in_a_padded_batch(bert, tmp_path):
    """On either side of the padding, the labels point at the answer's tokens, or at [CLS]."""
    examples = made_up(tmp_path)
    left = BertTokenizer(vocab=bert.get_vocab(), model_max_length=64, padding_side="left")
    for tokenizer in (bert, left):
        split = encode(examples, tokenizer, max_length=24, doc_stride=5)
        indices = split.lengths.argsort()[[0, 1, -2, -1]]
        batch = split.collate(indices)
        assert batch.labels.dtype == torch.int64 and batch.labels.shape == (4, 2) and not batch.mask.all()
        every = split.collate(np.arange(len(split)))
        for ids, (first, last), owner in zip(every.inputs["input_ids"], every.labels.tolist(), split._owners):
            token = tokenizer.convert_ids_to_tokens(ids[first : last + 1])
            gold = examples.labels[owner]
            assert token == ["[CLS]"] or token == [gold[0][1]]
        assert split.counts([0, 1]) == {"examples": 2, "tokens": int(split.lengths[:2].sum()), "labels": 2}


def test_long_questions_are_cut_and_counted(bert, tmp_path, caplog):
    caplog.set_level("INFO", logger="compression")
    split = encode(made_up(tmp_path), bert, max_length=24, doc_stride=5, max_query_length=3)
    assert split.num_truncated == 24 and "24 questions cut to 3 tokens" in caplog.text
    assert bert.convert_ids_to_tokens(split.collate([0]).inputs["input_ids"][0])[:5][1:] == [
        "where",
        "does",
        *tiny_name(split),
        "[SEP]",
    ]


def tiny_name(split):
    return [split.examples.first[0].split()[2]]


def test_answers_whose_tokens_have_blanks(tmp_path):
    """A tokenizer that counts the blank before a word to its token: texts of answers have none."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = sorted(
        {word for text in (tiny_squad.SENTENCE, tiny_squad.QUESTION) for word in text.split()} - {"{}"}
    )
    words = ["\u2581" + word for word in [*words, *tiny_squad.PEOPLE, *tiny_squad.TOWNS]]
    backend = Tokenizer(
        models.WordLevel(
            {word: i for i, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", *words])}, "[UNK]"
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        model_input_names=["input_ids", "attention_mask"],
    )
    examples = made_up(tmp_path)
    assert backend.encode("paris rome").offsets[-2] == (5, 10)  # with its blank
    split = encode(examples, tokenizer, max_length=24, doc_stride=5)
    found = split.answers(oracle(split))
    assert split.predictions(oracle(split)) == [gold[0][1] if gold else "" for gold in examples.labels]
    assert all(text == text.strip() for entries in found.candidates for *_, text in entries)
    assert set(split.collate([0]).inputs) == {"input_ids", "attention_mask"}


def oracle(split, seed=0):
    """Noise, and a bonus for the label's positions where it is an answer, or for [CLS]."""
    draw, outputs = np.random.default_rng(seed), []
    for length, (first, last) in zip(split.lengths, split._labels):
        logits = draw.normal(size=(length, 2)).astype(np.float32)
        logits[first, 0] += 20
        logits[last, 1] += 20
        outputs.append(logits)
    return outputs


# ---- Answers


def answers_in_loops(split, outputs, num_best, longest, threshold):
    """Per question (n best texts with probabilities, odds, answer), step by step from the paper's code, one
    window at a time."""
    result = []
    for number, context in enumerate(split.examples.second):
        null, found = math.inf, []
        for row in np.flatnonzero(split._owners == number):
            logits, start, size = outputs[row], split._context_starts[row], split._sizes[row]
            null = min(null, float(logits[0].sum(dtype=np.float32)))
            inside = logits[start : start + size]
            for first, last, score in pairs_in_loops(inside[:, 0], inside[:, 1], num_best, longest):
                begin = split._offsets[split._begins[row] + first, 0]
                end = split._offsets[split._begins[row] + last, 1]
                found.append((score, context[begin:end]))
        found.append((null, ""))
        found.sort(key=lambda entry: -entry[0])
        kept = found[:num_best]
        if "" not in [text for _, text in kept]:
            kept.append((null, ""))
        total = sum(math.exp(score) for score, _ in kept)
        top, best = next(((score, text) for score, text in found if text), (null - NO_SPAN, ""))
        odds = null - top
        result.append(
            (
                [(text, math.exp(score) / total) for score, text in kept],
                odds,
                "" if odds > threshold else best,
            )
        )
    return result


@pytest.mark.parametrize("num_best, longest, threshold", [(20, 30, 0.0), (3, 2, 1.5), (1, 1, -1.0)])
def test_answers_equal_loops(bert, tmp_path, num_best, longest, threshold):
    examples = made_up(tmp_path)
    split = encode(
        examples,
        bert,
        max_length=24,
        doc_stride=5,
        num_best=num_best,
        max_answer_length=longest,
        null_threshold=threshold,
    )
    draw = np.random.default_rng(5)
    outputs = [np.round(draw.normal(size=(length, 2)) * 2, 2).astype(np.float32) for length in split.lengths]
    path = split.write_submission(outputs, tmp_path / "out")
    files = [
        json.loads((tmp_path / "out" / f"squad2_dev_{name}.json").read_text())
        for name in ("predictions", "nbest_predictions", "null_odds")
    ]
    assert path.name == "squad2_dev_predictions.json" and len(list(path.parent.iterdir())) == 3
    for number, (best, odds, answer) in zip(
        examples.ids, answers_in_loops(split, outputs, num_best, longest, threshold)
    ):
        assert files[0][number] == answer and files[2][number] == pytest.approx(odds, abs=1e-6)
        assert [entry["text"] for entry in files[1][number]] == [text for text, _ in best]
        assert [entry["probability"] for entry in files[1][number]] == pytest.approx(
            [p for _, p in best], rel=1e-5
        )


def test_golden_answer():
    """Null scores 3.0 and 1.5 in two windows, best span 2.0: odds -.5, so the span; with the threshold -1
    nothing."""
    found = Answers([[(2.0, 1.0, 1.0, "Rome")]], np.minimum.reduceat(np.array([3.0, 1.5]), [0]))
    assert found.odds == [-0.5] and found.predictions(0.0) == ["Rome"] and found.predictions(-1.0) == [""]


def test_a_context_without_tokens_has_no_answer(bert):
    examples = Examples(
        ["a", "b"],
        ["where ?", "where ?"],
        ["\u200d \u200d", "paris ."],
        [(), ((0, "paris"),)],
        "x.json",
        "dev",
    )
    split = encode(examples, bert, max_length=24, doc_stride=5)
    outputs = [np.zeros((length, 2), np.float32) for length in split.lengths]
    found = split.answers(outputs)
    assert found.texts[0] == "" and found.odds[0] == NO_SPAN and found.predictions(1e9) == ["", "paris"]
    assert split.score(outputs)["exact"] == 1.0


def test_diverged_outputs(bert, tmp_path):
    split = encode(made_up(tmp_path), bert, max_length=24, doc_stride=5)
    with pytest.raises(RunError, match="not finite"):
        split.score([np.full((length, 2), np.nan, np.float32) for length in split.lengths])


# ---- Losses


def reference_losses(logits, teacher, labels, lengths, temperature):
    """(task, soft label) in plain Python: softmaxes over the real positions only."""

    def log_softmax(values):
        top = max(values)
        total = top + math.log(sum(math.exp(value - top) for value in values))
        return [value - total for value in values]

    task = soft = 0.0
    for example, length in enumerate(lengths):
        for side in (0, 1):
            mine = [logits[example][position][side] for position in range(length)]
            theirs = [teacher[example][position][side] for position in range(length)]
            task -= log_softmax(mine)[labels[example][side]]
            student = log_softmax([value / temperature for value in mine])
            target = log_softmax([value / temperature for value in theirs])
            soft -= temperature**2 * sum(math.exp(p) * q for p, q in zip(target, student))
    return task / 2 / len(lengths), soft / 2 / len(lengths)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_losses_against_plain_python(temperature):
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 3, 7, 2, generator=generator, dtype=torch.float64) * 3
    lengths, labels = (7, 4, 2), torch.tensor([[6, 6], [0, 3], [1, 1]])
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    task, soft = reference_losses(logits.tolist(), teacher.tolist(), labels.tolist(), lengths, temperature)
    logits.requires_grad_()
    found_task = losses.task_loss(logits, labels, kind="spans", mask=mask)
    found_soft = losses.soft_label(logits, teacher, kind="spans", temperature=temperature, mask=mask)
    assert (found_task.item(), found_soft.item()) == pytest.approx((task, soft), rel=1e-12)
    gradient = torch.autograd.grad(found_task + found_soft, logits)[0]
    assert gradient.isfinite().all() and (gradient[~mask] == 0).all() and (gradient[mask].abs() > 0).all()
    parts = [
        losses.task_loss(logits[i : i + 1], labels[i : i + 1], kind="spans", mask=mask[i : i + 1], divisor=3)
        for i in range(3)
    ]
    assert sum(parts).item() == pytest.approx(task, rel=1e-12)
    beyond = labels.clone()
    beyond[1, 0] = 7  # outside of the row: adds nothing
    lost = -torch.log_softmax(logits[1, :4, 0], 0)[0] / 6
    assert losses.task_loss(logits, beyond, kind="spans", mask=mask).item() == pytest.approx(
        task - lost.item(), rel=1e-12
    )


def test_golden_divergence_with_padding():
    """z_s = [1, 2, 0 | 5], z_t = [2, 1, 0 | -3] at T = 2: masked .3985690, over the padding too 4.3201098."""
    student, teacher = (
        torch.tensor([[values, values]], dtype=torch.float64).transpose(1, 2)
        for values in ([1.0, 2, 0, 5], [2.0, 1, 0, -3])
    )
    for mask, expected in (([True] * 3 + [False], 0.3985690), ([True] * 4, 4.3201098)):
        found = divergence(student, teacher, kind="spans", temperature=2.0, mask=torch.tensor([mask]))
        assert found.item() == pytest.approx(expected, abs=2e-6)


def test_a_models_start_and_end_become_logits(bert, tmp_path):
    from transformers import BertConfig, BertForQuestionAnswering

    config = BertConfig(
        vocab_size=len(bert), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertForQuestionAnswering(config).eval()
    batch: Batch = encode(made_up(tmp_path), bert, max_length=24, doc_stride=5).collate([0, 1])
    output, plain = batch.through(model), model(**batch.inputs)
    assert torch.equal(output.logits[..., 0], plain.start_logits) and torch.equal(
        output.logits[..., 1], plain.end_logits
    )
