"""Blocks, building and opening of corpora, against plain references that take one token at a time."""

import functools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import ROOT, kill_when, run
from corpus_texts import (
    PIECES,
    bert_like,
    built,
    contents,
    plain_blocks,
    plain_ids,
    plain_pairs,
    read,
    roberta_like,
    rows,
    save_normalised,
    text,
    xlmr_like,
)
from tokenizers import normalizers
from transformers import BertTokenizer

from data.corpus import blocks, build, manifest, memory_mapped
from data.corpus.layout import layout_of
from data.model_tokenizer import encoding_hash, load_tokenizer
from utils.errors import CheckpointError, DataError, FlagError


@pytest.fixture(scope="module")
def tokenizer():
    return bert_like()


# ---- Tokens

ODD = [
    "The cat, sat (on) a\tmat!",
    "",
    "  two  blanks ",
    "no\u00a0break\u200d \u00a0 [MASK] x",
    "caf\u00e9 \u4e16\u4e16 3.5",
    "un",
    "\ufb01 x",
]
MAKERS = {
    "bert": None,
    "bpe": roberta_like,
    "unigram": xlmr_like,
    "whole": functools.partial(xlmr_like, split=False),
}


@pytest.mark.parametrize("name", MAKERS)
def test_tokens_equal_those_of_the_whole_line(name, tokenizer, monkeypatch):
    """Whatever is kept of earlier words; a tokenizer whose pieces cross blanks gets whole lines."""
    tokenizer = MAKERS[name]() if MAKERS[name] else tokenizer
    layout, whole = layout_of(tokenizer, kind="packed", max_length=16), name == "whole"
    assert layout.by_word != whole
    monkeypatch.setattr(blocks, "_CACHED_WORDS", 20)
    monkeypatch.setattr(blocks, "_GROUP", 3)
    tokenise = blocks.CachedTokenizer(layout)
    texts = ODD + [line for document in text(10) for line in document.split("\n")] + ["the cat sat"] * 2
    for some in (texts[:9], texts[5:20], texts):
        ids, lengths = tokenise(some)
        expected = []
        for line in some:
            expected.append(plain_ids(tokenizer, line) if line.strip() else [])
        assert lengths.tolist() == [len(row) for row in expected]
        assert ids.tolist() == [token for row in expected for token in row]
    if whole:
        assert "t\u2581sat" in tokenizer.convert_ids_to_tokens(ids.tolist())


@pytest.mark.parametrize("name", MAKERS)
def test_a_hash_of_what_makes_the_ids(name, tokenizer, tmp_path):
    """The same after use, and saved and opened again; another one for whatever changes the ids."""
    make = MAKERS[name] or bert_like
    tokenizer = make()
    expected = encoding_hash(tokenizer)
    tokenizer(["a cat", "b"], padding=True, truncation=True, max_length=3)
    assert tokenizer.backend_tokenizer.truncation and encoding_hash(tokenizer) == expected
    tokenizer.save_pretrained(tmp_path)
    assert encoding_hash(load_tokenizer(tmp_path)) == expected

    changed = {key: make() for key in ("normalizer", "post_processor", "added", "mask")}
    changed["normalizer"].backend_tokenizer.normalizer = normalizers.NFD()
    changed["post_processor"].backend_tokenizer.post_processor = None
    changed["added"].add_tokens(["zebra"])
    changed["mask"].mask_token = changed["mask"].convert_ids_to_tokens(9)
    if name == "bpe":
        changed["merges"] = roberta_like(merges=2)
        assert changed["merges"].get_vocab() == tokenizer.get_vocab()
    hashes = {key: encoding_hash(other) for key, other in changed.items()}
    assert len({expected, *hashes.values()}) == 1 + len(changed), hashes


# ---- Packed blocks


@pytest.mark.parametrize("make", [None, roberta_like, xlmr_like], ids=["bert", "roberta", "xlmr"])
@pytest.mark.parametrize("max_length", [5, 16, 64])
def test_packed_blocks(make, max_length, tokenizer, tmp_path):
    tokenizer = make() if make else tokenizer
    texts = ["", *text()]
    corpus = built(texts, tokenizer, tmp_path / "corpus", max_length=max_length)
    expected, rest = plain_blocks(texts, tokenizer, max_length)
    assert rows(corpus) == expected and len(corpus) == len(expected)
    counts = manifest.read_manifest(tmp_path / "corpus")["counts"]
    assert counts["tokens_left_over"] == rest and counts["documents"] == 61
    # Nothing is lost
    assert counts["tokens"] + sum(bool(t) for t in texts) - 1 == len(corpus) * (max_length - 2) + rest
    batch = corpus.collate(np.arange(len(corpus))[::-1][:4])
    assert batch.labels is None and batch.divisors == {"examples": 4.0, "tokens": 4.0 * max_length}
    assert batch.inputs["attention_mask"].all() and batch.inputs["input_ids"].dtype == torch.int64
    assert ("token_type_ids" in batch.inputs) == (make is None)
    if make is None:
        assert not batch.inputs["token_type_ids"].any()


def test_blocks_that_end_with_their_document(tokenizer, tmp_path):
    texts = text()
    corpus = built(texts, tokenizer, tmp_path / "corpus", cross=False)
    expected, _ = plain_blocks(texts, tokenizer, 16, cross=False)
    assert rows(corpus) == expected and len(set(corpus.lengths)) > 3
    longest = max(range(16), key=lambda i: corpus.lengths[i])
    batch = corpus.collate([longest, 3])
    assert batch.inputs["attention_mask"].sum(1).tolist() == [corpus.lengths[longest], corpus.lengths[3]]
    assert batch.inputs["input_ids"][1].tolist() == expected[3] + [0] * (
        corpus.lengths[longest] - corpus.lengths[3]
    )
    order = corpus.epoch(1, 0, 4)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(corpus)))
    padding = sum(len(b) * corpus.lengths[b].max() - corpus.lengths[b].sum() for b in order)
    assert padding < 0.1 * corpus.lengths.sum()  # grouped by length


def test_the_datasets_library_opens_a_corpus(tokenizer, tmp_path):
    import datasets

    corpus = built(text(), tokenizer, tmp_path / "corpus")
    rows_there = datasets.Dataset.from_file(str(tmp_path / "corpus" / "blocks-00000.arrow"))
    assert rows_there["input_ids"][:] == rows(corpus)


def test_shards(tokenizer, tmp_path, monkeypatch):
    """A corpus in several files is the same corpus."""
    whole = built(text(), tokenizer, tmp_path / "whole")
    monkeypatch.setattr(build, "_SHARD", 300)
    parts = built(text(), tokenizer, tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.arrow"))) > 3
    assert rows(parts) == rows(whole)


# ---- Pairs


@pytest.mark.parametrize("size", [1, 400, 10**6], ids=["one document each", "some", "one chunk"])
@pytest.mark.parametrize("make", [None, roberta_like], ids=["bert", "roberta"])
def test_pairs(make, size, tokenizer, tmp_path):
    tokenizer = make() if make else tokenizer
    texts = text(longest=25)
    corpus = built(texts, tokenizer, tmp_path / "corpus", kind="pairs", max_length=32, size=size)
    chunks = [chunk for _, _, chunk in blocks.chunks(iter(texts), size=size)]
    expected, random_pairs, unpaired = plain_pairs(chunks, tokenizer, 29 if make is None else 28, 5)
    counts = manifest.read_manifest(tmp_path / "corpus")["counts"]
    assert (counts["random_pairs"], counts["tokens_unpaired"]) == (random_pairs, unpaired)
    assert (random_pairs == 0) == (size == 1) and (unpaired > 0) == (size < 10**6)
    assert len(corpus) == len(expected) > 50 and corpus.lengths.max() == 32
    for i, (a, b) in enumerate(expected):
        inputs = corpus.collate([i]).inputs
        if make is None:
            assert inputs["input_ids"][0].tolist() == [2, *a, 3, *b, 3]
            assert inputs["token_type_ids"][0].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
        else:
            assert inputs["input_ids"][0].tolist() == [0, *a, 2, 2, *b, 2]


def test_half_of_the_pairs_are_random(tokenizer, tmp_path):
    texts = text(800, longest=4)
    built(texts, tokenizer, tmp_path / "corpus", kind="pairs", size=10**6)
    counts = manifest.read_manifest(tmp_path / "corpus")["counts"]
    # More than half: documents of a single sentence
    assert 0.45 < counts["random_pairs"] / counts["blocks"] < 0.7


def test_lines_that_are_sentences_are_left_alone(tokenizer, tmp_path):
    layout = layout_of(tokenizer, kind="sentences", max_length=0, language=None)
    arrays, counts = blocks.encode_chunk(["One. Two.\nThree."], 0, layout=layout, tokenizer=None)
    assert arrays["text"].tobytes() == b"One. Two.\nThree.\n\n" and counts["sentences"] == 2


# ---- Building


@pytest.mark.parametrize("kind, cross", [("packed", True), ("packed", False), ("pairs", True)])
def test_any_number_of_workers_makes_the_same_bytes(kind, cross, tokenizer, tmp_path):
    found = []
    for workers in (1, 3):
        built(text(), tokenizer, tmp_path / str(workers), kind=kind, cross=cross, num_workers=workers)
        assert len(list((tmp_path / str(workers) / "state").glob("*.npz"))) > 8
        found.append(
            {name: data for name, data in contents(tmp_path / str(workers)).items() if "state" not in name}
        )
    assert found[0] == found[1] and set(found[0]) == {"blocks-00000.arrow", "corpus.json"}


def test_only_missing_chunks_are_done_again(tokenizer, tmp_path):
    built(text(), tokenizer, tmp_path / "corpus")
    expected, state = contents(tmp_path / "corpus"), tmp_path / "corpus" / "state"
    (state / "000003.npz").rename(state / ".000003.npz.0123456789abcdef.tmp")  # as a kill leaves it
    before = {path.name: path.stat().st_mtime_ns for path in state.glob("*.npz")}
    built(text(), tokenizer, tmp_path / "corpus")
    after = {path.name: path.stat().st_mtime_ns for path in state.glob("*.npz")}
    assert contents(tmp_path / "corpus") == expected
    assert {name for name in after if after[name] != before.get(name)} == {"000003.npz"}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A text of several chunks."""
    path = tmp_path_factory.mktemp("large") / "a.txt"
    path.write_text("\n\n".join(t for t in text(20_000) if t) * 3)
    assert path.stat().st_size > 3 * blocks.CHUNK
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_continues(workers, large, corpus_tokenizer_dir, tmp_path):
    """The same bytes as without the kill; a finished corpus is reported the second time, and refused with
    other settings."""
    flags = [
        "--input",
        large,
        "--tokenizer_name_or_path",
        corpus_tokenizer_dir,
        "--max_seq_length",
        32,
        "--num_workers",
        workers,
    ]
    run("run_corpus.py", *flags, "--output_dir", tmp_path / "whole")
    killed = tmp_path / "killed"
    chunk = killed / "state" / "chunks" / "000001.npz"
    assert kill_when(chunk.exists, "run_corpus.py", *flags, "--output_dir", killed)
    assert not (killed / "corpus.json").exists()
    with pytest.raises(DataError, match="has not been built to its end"):
        manifest.read_manifest(killed)
    done = run("run_corpus.py", *flags, "--output_dir", killed)
    assert done.stdout.splitlines()[-1] == str(killed) and not (killed / "state").exists()
    names = [path.name for path in killed.glob("blocks-*.arrow")]
    for name in [*names, "corpus.json"]:
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    before = contents(killed)
    done = run("run_corpus.py", *flags, "--output_dir", killed)
    assert done.stdout.splitlines()[-1] == str(killed) and "finished before" in done.stderr
    assert (
        contents(killed).keys() == before.keys() and contents(killed)["corpus.json"] == before["corpus.json"]
    )
    done = run("run_corpus.py", *flags, "--seed", 3, "--output_dir", killed, code=2)
    assert "--seed: 776 in the run, 3 now" in done.stderr


def test_a_corpus_of_a_tokenizer_that_has_changed(built_corpus, corpus_tokenizer_dir, tmp_path):
    """Of the same vocabulary: refused; one of an earlier version, which recorded no more, is reported."""
    folder, changed = tmp_path / "run", save_normalised(corpus_tokenizer_dir, tmp_path / "changed")
    shutil.copytree(built_corpus, folder)
    command = [
        *("run_corpus.py", "--input", built_corpus.parent / "a.txt", "--tokenizer_name_or_path", changed),
        *f"--max_seq_length 16 --num_workers 1 --output_dir {folder}".split(),
    ]
    refused = run(*command, code=2).stderr
    assert "tokenizer/text to ids: " in refused and "tokenizer/vocabulary" not in refused
    record = json.loads((folder / "args.json").read_text())
    del record["inputs"]["tokenizer/text to ids"]
    (folder / "args.json").write_text(json.dumps(record))
    assert "finished before" in run(*command).stderr


def test_a_config_that_has_changed(corpus_tokenizer_dir, tmp_path):
    """The same files, in another order: refused; an earlier version did not record it."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n\n".join(t for t in text(seed=ord(name[0])) if t))
    config, folder = tmp_path / "config.json", tmp_path / "run"
    command = [
        *f"run_corpus.py --input {config} --tokenizer_name_or_path {corpus_tokenizer_dir}".split(),
        *f"--max_seq_length 16 --num_workers 1 --output_dir {folder}".split(),
    ]
    config.write_text('{"urls": ["a.txt", "b.txt"]}')
    run(*command)
    config.write_text('{"urls": ["b.txt", "a.txt"]}')
    assert "  input/how files are read: " in run(*command, code=2).stderr
    record = json.loads((folder / "args.json").read_text())
    del record["inputs"]["input/how files are read"]
    (folder / "args.json").write_text(json.dumps(record))
    assert "finished before" in run(*command).stderr


def test_script_writes_sentences_that_make_the_same_blocks(large, corpus_tokenizer_dir, tmp_path):
    """Sentences only, then blocks of them: the blocks of the text itself."""
    run(
        "run_corpus.py",
        "--input",
        large,
        "--sentences_only",
        "--num_workers",
        2,
        "--output_dir",
        tmp_path / "text",
    )
    lines = (tmp_path / "text" / "sentences" / "00000.txt").read_text().split("\n\n")
    assert (
        sum(map(bool, lines))
        == json.loads((tmp_path / "text" / "results.json").read_text())["counts"]["documents"]
    )
    blocks = []
    for number, source in enumerate((large, tmp_path / "text" / "sentences")):
        run(
            "run_corpus.py",
            *f"--input {source} --tokenizer_name_or_path {corpus_tokenizer_dir}".split(),
            *f"--num_workers 1 --max_seq_length 64 --output_dir {tmp_path / str(number)}".split(),
        )
        blocks.append((tmp_path / str(number) / "blocks-00000.arrow").read_bytes())
    assert blocks[0] == blocks[1]


def test_dry_run_leaves_nothing(large, corpus_tokenizer_dir, tmp_path):
    run(
        "run_corpus.py",
        *f"--input {large} --tokenizer_name_or_path {corpus_tokenizer_dir} --dry_run".split(),
        *f"--num_workers 1 --max_seq_length 16 --output_dir {tmp_path / 'run'}".split(),
    )
    assert not (tmp_path / "run").exists()


SPARSE = {  # what is made: documents of which the first 48, which a dry run reads, make nothing
    "--max_seq_length 64": [""] * 50 + ["cat"] * 32,
    "--max_seq_length 64 --no_cross_documents": [""] * 50 + ["cat"],
    "--max_seq_length 64 --blocks pairs": [""] * 50 + ["A cat sat.", "A dog."],
    "--sentences_only": [""] * 100 + ["A dog."],
}


@pytest.mark.parametrize("options", SPARSE)
def test_a_dry_run_reads_as_much_as_makes_a_block(options, corpus_tokenizer_dir, tmp_path):
    """And finds no fault where the run finds none: 32 documents of one token, and what separates them."""
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"text": document}) + "\n" for document in SPARSE[options]))
    command = [
        *f"run_corpus.py --input {source} {options} --num_workers 1 --output_dir {tmp_path / 'run'}".split(),
        *([] if "only" in options else ["--tokenizer_name_or_path", corpus_tokenizer_dir]),
    ]
    run(*command, "--dry_run")
    run(*command)
    if options == "--max_seq_length 64":
        source.write_text("".join(source.read_text().splitlines(keepends=True)[:-1]))
        refused = run(*command, "--overwrite", "--dry_run", code=2).stderr
        assert "found 61 tokens in all documents together; expected at least 62" in refused


def test_workers_need_no_torch():
    """A worker imports what it unpickles and this; torch would cost each of them a second and memory."""
    code = (
        "import sys; import data.corpus.build, data.corpus.blocks; assert not {'torch', 'transformers'} & "
        "set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_real_articles(data_dir, encoder_dir, tmp_path):
    """The blocks of the real tokenizer and real text, one token at a time."""
    tokenizer = load_tokenizer(encoder_dir)
    texts = read(data_dir / "wiki" / "AA" / "wiki_00")[:20]
    corpus = built(texts, tokenizer, tmp_path / "corpus", max_length=128, size=50_000)
    expected, _ = plain_blocks(texts, tokenizer, 128)
    assert rows(corpus) == expected


# ---- Reading a corpus


@pytest.fixture(scope="module")
def corpus(tokenizer, tmp_path_factory):
    return built(text(), tokenizer, tmp_path_factory.mktemp("corpus") / "corpus")


def test_split_and_order(corpus, caplog):
    train, heldout = corpus.hold_out_blocks(10)
    again = corpus.hold_out_blocks(10)[1]
    every = rows(corpus)
    assert rows(again) == rows(heldout) and len(heldout) == 10 and len(train) == len(corpus) - 10
    assert sorted(rows(train) + rows(heldout)) == sorted(every) and rows(heldout) != every[:10]
    order = train.epoch(7, 2, 8)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(train)))
    assert all((a == b).all() for a, b in zip(order, train.epoch(7, 2, 8)))
    for other in (train.epoch(7, 3, 8), train.epoch(8, 2, 8)):
        assert any((a != b).any() for a, b in zip(order, other) if len(a) == len(b))
    assert np.concatenate(heldout.in_order(4)).tolist() == list(range(10))
    assert train.counts(order[0]) == {"examples": 8, "tokens": 128}
    with pytest.raises(
        DataError, match=rf"found {len(corpus)} blocks; expected 10 .* at least {len(corpus)}"
    ):
        corpus.hold_out_blocks(10, at_least=len(corpus))


def test_what_cannot_be_opened(tokenizer, tmp_path, built_corpus):
    folder = tmp_path / "corpus"
    built(text(), tokenizer, folder)
    other = BertTokenizer(vocab={piece: i for i, piece in enumerate([*PIECES, "more"])})
    with pytest.raises(
        CheckpointError, match=rf"tiny \({len(PIECES)} pieces, .* has {len(PIECES) + 1} pieces"
    ):
        memory_mapped.open_corpus(folder, tokenizer=other)
    cased = BertTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)}, do_lower_case=False)
    with pytest.raises(CheckpointError, match="the same pieces, but makes other ids of a text"):
        memory_mapped.open_corpus(folder, tokenizer=cased)
    with pytest.raises(FlagError, match="blocks of 16 tokens; the model takes at most 12 positions"):
        memory_mapped.open_corpus(folder, tokenizer=tokenizer).require_positions(12)
    with pytest.raises(FlagError, match=r"--max_length: found 32; the blocks of .* have 16"):
        memory_mapped.open_corpus(folder, tokenizer=tokenizer, max_length=32)
    corpus = memory_mapped.open_corpus(folder, tokenizer=tokenizer, max_length=16)
    corpus.require_positions(16)
    assert len(corpus) > 20
    with pytest.raises(
        DataError,
        match=r"found no corpus.json; expected a corpus folder made by run_corpus.py, or --streaming",
    ):
        memory_mapped.open_corpus(tmp_path, tokenizer=tokenizer)
    (folder / "blocks-00000.arrow").rename(folder / "x")
    with pytest.raises(DataError, match=r"blocks-00000.arrow: no such file"):
        memory_mapped.open_corpus(folder, tokenizer=tokenizer)
    (folder / "x").rename(folder / "blocks-00000.arrow")
    whole = (folder / "blocks-00000.arrow").read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2 : len(whole) // 2 + 400] = bytes(400)
    for content in (changed, whole[:500], b"", b"\xff\xfe", b"[]"):
        (folder / "blocks-00000.arrow").write_bytes(content)
        with pytest.raises(DataError, match=r"blocks-00000.arrow: changed or damaged"):
            memory_mapped.open_corpus(folder, tokenizer=tokenizer)
    (folder / "sentences").mkdir()
    (folder / "corpus.json").unlink()
    with pytest.raises(DataError, match="holds sentences, no blocks"):
        memory_mapped.open_corpus(folder, tokenizer=tokenizer)
    assert len(memory_mapped.open_corpus(built_corpus, tokenizer=tokenizer)) > 20  # what the script writes


def test_a_manifest_of_an_earlier_version(tokenizer, tmp_path):
    """It tells the vocabulary only."""
    built(text(), tokenizer, tmp_path)
    facts = json.loads((tmp_path / "corpus.json").read_text())
    del facts["tokenizer"]["encoding"]
    (tmp_path / "corpus.json").write_text(json.dumps(facts))
    assert len(memory_mapped.open_corpus(tmp_path, tokenizer=tokenizer)) > 20


SHARD = {"file": "blocks-00000.arrow", "blocks": 3, "sha256": "0" * 64}
MANIFESTS = [
    *("", "[]", "{", "5", "null", "[" * 100_000, '{"blocks": "packed"}', "\0"),
    *(
        {name: value}
        for name, values in {
            "tokenizer": (5, {"name": 1}, {"name": "x", "size": 9}),
            "blocks": (None, "sentences", ["packed"]),
            "max_length": ("16", 12.5, None, True, 12),
            "num_blocks": ("many", -1),
            "shards": ({}, [], [5], [{}], [{**SHARD, "file": "../outside.arrow"}], [{**SHARD, "sha256": 5}]),
        }.items()
        for value in values
    ),
]


@pytest.mark.parametrize("content", MANIFESTS, ids=[str(content)[:50] for content in MANIFESTS])
def test_damaged_manifests(content, tokenizer, tmp_path):
    """One message that names the corpus."""
    built(text(), tokenizer, tmp_path)
    if isinstance(content, dict):
        content = json.dumps({**json.loads((tmp_path / "corpus.json").read_text()), **content})
    (tmp_path / "corpus.json").write_text(content)
    with pytest.raises(DataError, match=str(tmp_path)) as caught:
        memory_mapped.open_corpus(tmp_path, tokenizer=tokenizer)
    assert "build the corpus again" in str(caught.value)
