"""Streams and flags of corpora; training on both through the loop, interrupted."""

import logging

import pytest
import torch
from corpus_texts import PIECES, bert_like, built, plain_blocks, read, rows, text

from data.corpus import blocks, documents, memory_mapped, streaming, training_blocks
from utils import distributed, flags, interruptions, logs, training, updates
from utils.errors import DataError, FlagError
from utils.evaluation import Score
from utils.run import Run


@pytest.fixture(scope="module")
def tokenizer():
    return bert_like()


# ---- Streams


@pytest.fixture
def stream_of(tokenizer, tmp_path, monkeypatch):
    """Makes a stream over files, as one of several processes."""
    monkeypatch.setattr(streaming, "_CHUNK", 400)
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("\n\n".join(t for t in text(40, seed=number) if t))

    def make(rank=0, world=1, **options):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world", lambda: world)
        sources = documents.find_sources([str(tmp_path / "*.txt")])
        settings = {
            "max_length": 16,
            "seed": 3,
            "batch_size": 4,
            "num_updates": 1000,
            "buffer": 20,
            **options,
        }
        return streaming.StreamedCorpus(sources, tokenizer, **settings)

    return make


def taken(stream, number, world=1, start=0):
    """The blocks of this process in so many updates, as one list of lists."""
    found = []
    order = stream.epoch(3, 0, 4 * world)
    for update in range(start, number):
        mine = [part for part, _ in updates.micro_batches(order[update], per_device=4)]
        found += [row for part in mine for row in stream.collate(part).inputs["input_ids"].tolist()]
    return found


def pass_length(stream):
    return sum(len(packed) for _, packed in stream._chunks(every=True))


def test_a_stream_has_every_block_of_its_chunks_once_in_a_pass(stream_of, tmp_path, tokenizer):
    train, heldout = stream_of().hold_out_blocks(10)
    texts = read(tmp_path / "*.txt")
    expected = []
    for _, _, chunk in blocks.chunks(iter(texts), size=400):
        expected += plain_blocks(chunk, tokenizer, 16)[0]
    assert rows(heldout) == expected[:10]
    number = len(expected) - 10
    assert pass_length(train) == number and len(train) == 4000
    got = taken(train, 2 * -(-number // 4))
    assert sorted(got[:number]) == sorted(expected[10:]) and got[:number] != expected[10:]
    assert (
        sorted(got[number : 2 * number]) == sorted(expected[10:]) and got[number : 2 * number] != got[:number]
    )
    nearby = [abs(expected[10:].index(row) - i) for i, row in enumerate(got[:20])]
    assert max(nearby) <= 60  # a buffer, not the whole text


def test_a_stream_equals_its_own_continuation(stream_of):
    whole = taken(stream_of().hold_out_blocks(10)[0], 60)
    for start in (1, 7, 50):
        assert taken(stream_of().hold_out_blocks(10)[0], 60, start=start) == whole[4 * start :]
    stream = stream_of().hold_out_blocks(10)[0]
    taken(stream, 30)
    assert taken(stream, 60, start=3) == whole[12:]  # backwards
    assert taken(stream_of(seed=3, buffer=5).hold_out_blocks(10)[0], 60) != whole


def test_two_processes_see_disjoint_blocks_and_together_all(stream_of):
    alone = stream_of().hold_out_blocks(10)[0]
    number = pass_length(alone)
    expected = taken(alone, -(-number // 4))[:number]
    found = []
    for rank in range(2):
        train, heldout = stream_of(rank, 2).hold_out_blocks(10)
        mine = sum(len(packed) for _, packed in train._chunks())
        assert 0 < mine < number and len(heldout) == 10 and len(train) == 8000
        found.append(taken(train, -(-mine // 4), world=2)[:mine])
    assert sorted(found[0] + found[1]) == sorted(expected)


def test_short_streams(stream_of):
    number = pass_length(stream_of())
    stream_of().hold_out_blocks(number - 8, at_least=8)
    with pytest.raises(
        DataError, match=rf"0.txt: found {number} blocks of 16 tokens; expected {number - 7} .* at least 8"
    ):
        stream_of().hold_out_blocks(number - 7, at_least=8)
    with pytest.raises(DataError, match=r"in chunks for .* of 1000 processes"):
        stream_of(world=1000).hold_out_blocks(1)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.out = torch.nn.Embedding(len(PIECES), 8), torch.nn.Linear(8, len(PIECES))

    def forward(self, input_ids, **_):
        return self.out(torch.tanh(self.embedding(input_ids)))


def objective(model, batch):
    ids = batch.inputs["input_ids"]
    logits = model(**batch.inputs)[:, :-1].flatten(0, 1)
    return {
        "next": torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum")
        / batch.divisors["tokens"]
    }


def fit(folder, train, args, ask, *, interrupt_at=None):
    """Train; interrupt_at: the evaluation during which ask(), of the fixture asked_to_stop, tells that it is
    to stop."""
    run = Run(folder, args, torch.device("cpu"), finished=False)
    folder.mkdir(exist_ok=True)
    run.metrics = logs.Metrics(folder, tracker="none", name="test", settings={})
    model, evaluations = Model(), []

    def evaluate():
        evaluations.append(1)
        ask(len(evaluations) == interrupt_at)
        return Score(-float(len(evaluations)), {"dev": {"loss": 1.0}})

    def save(folder):
        folder.mkdir()

    try:
        training.fit(
            model,
            objective,
            train,
            evaluate=evaluate,
            save=lambda folder, score: save(folder),
            settings=run.training,
            run=run,
        )
    except interruptions.Interrupted:
        assert interrupt_at
    ask(False)
    return model


@pytest.fixture(scope="module")
def corpus(tokenizer, tmp_path_factory):
    return built(text(), tokenizer, tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.mark.parametrize("kind", ["stream", "corpus"])
def test_training_continues_byte_equal(kind, stream_of, corpus, asked_to_stop, tmp_path):
    """Through the training loop: two micro-batches an update, interrupted after update 10 of 25."""
    parser = flags.parser("", flags.training, flags.runtime)
    words = [
        *"--per_device_train_batch_size 4 --num_grad_accum_steps 2 --max_steps 25".split(),
        *"--eval_interval 10 --learning_rate 0.01 --seed 3 --save_minutes 0".split(),
        *"--precision fp32".split(),
    ]
    args = flags.resolve(parser, words, stage="test", name=lambda args: "run")

    def data():
        return (stream_of(num_updates=25, num_accumulated=2) if kind == "stream" else corpus).hold_out_blocks(
            10, at_least=8
        )[0]

    whole = fit(tmp_path / "whole", data(), args, asked_to_stop)
    fit(tmp_path / "parts", data(), args, asked_to_stop, interrupt_at=1)
    parts = fit(tmp_path / "parts", data(), args, asked_to_stop)
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values()):
        assert torch.equal(a, b), name
    assert not torch.equal(whole.embedding.weight, Model().embedding.weight)


# ---- Flags


def corpus_args(*words):
    parser = flags.parser("", flags.corpus.corpus, flags.training, flags.runtime)
    return flags.resolve(
        parser,
        [str(word) for word in words],
        stage="test",
        name=lambda args: "run",
        check=flags.corpus.check_corpus,
    )


def test_flags_name_a_corpus_or_a_stream(built_corpus, tokenizer, tmp_path):
    def opened(args, max_positions=64):
        train, heldout = training_blocks.train_and_heldout(tokenizer, **flags.corpus.data_options(args))
        train.require_positions(max_positions)
        assert len(heldout) == 4
        return train

    def recorded(args):
        return training_blocks.recorded_inputs(args.corpus, from_text=flags.corpus.text_format(args))

    sizes = ("--max_length", 16, "--num_heldout_blocks", 4, "--per_device_train_batch_size", 8)
    args = corpus_args("--corpus", built_corpus, *sizes)
    assert isinstance(opened(args), memory_mapped.Corpus)
    assert recorded(args) == {"corpus": [built_corpus / "corpus.json"]}
    (tmp_path / "a.txt").write_text("\n\n".join(t for t in text() if t))
    args = corpus_args("--corpus", tmp_path / "a.txt", "--streaming", "--max_steps", 5, *sizes)
    stream = opened(args)
    assert isinstance(stream, streaming.StreamedCorpus) and len(stream) == 5 * 8
    assert list(recorded(args)["corpus"]) == [str(tmp_path / "a.txt"), "how files are read"]
    with pytest.raises(FlagError, match="--max_length: blocks of 16 tokens; the model takes at most 12"):
        opened(args, max_positions=12)
    with pytest.raises(FlagError, match="is a built corpus; leave --streaming out"):
        recorded(corpus_args("--corpus", built_corpus, "--streaming", "--max_steps", 5))


@pytest.mark.parametrize(
    "words, said",
    [
        (["--corpus", "a", "--streaming"], "--max_steps: required with --streaming"),
        (["--corpus", "a", "b"], "--corpus: found 2 paths"),
        (
            ["--corpus", "a", "--shuffle_buffer", 5, "--columns", "x"],
            "--shuffle_buffer: has no effect on a built corpus",
        ),
        ([], "--corpus.*: required"),
    ],
)
def test_bad_corpus_flags(words, said):
    with pytest.raises(FlagError, match=said):
        corpus_args(*words)


def test_streams_log_what_resuming_costs(stream_of, caplog):
    caplog.set_level(logging.INFO, logger="compression")
    taken(stream_of().hold_out_blocks(10)[0], 9, start=8)
    assert "reading forward over 32 blocks" in caplog.text
