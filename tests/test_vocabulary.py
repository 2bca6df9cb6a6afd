"""Smaller vocabularies: of each kind of tokenizer, on real text, beside the whole one."""

import json
import shutil

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from commands import run
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import run_vocabulary
from data import tasks
from data.model_tokenizer import load_tokenizer, plain_backend
from data.task_data import TaskData
from data.vocabulary import counting, trimmed
from data.vocabulary.pieces import Pieces
from models import architectures, crop, load_model, save_model, sort_units, vocabulary
from models.checkpoint_files import weight_names
from models.heads import has_vocabulary_head
from utils import checkpoints, families, files
from utils.errors import FlagError, UserError
from utils.frozen_outputs import FrozenOutputs

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
UNSEEN = ["Zażółć gęślą jaźń", "naïve 東京 ½ ﬁne", "tab\tand  blanks", "🙂 smile"]


@pytest.fixture(scope="module")
def texts(data_dir):
    """(counted, kept apart): sentences of MRPC's train and dev."""
    counted, apart = counting.task_texts(tasks.get("mrpc"), data_dir)
    return counted[:1500], apart[:200]


def draw(model):
    """The model with all parameters random, biases too: its logits differ from each other."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.tie_weights()
    return model


def byte_level(texts, specials, size=1500):
    """A byte-level BPE backend trained on texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def sentencepiece_model(texts, folder, name, **options):
    import sentencepiece

    (folder / "text").write_text("\n".join(texts))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "made"),
        vocab_size=1500,
        minloglevel=2,
        character_coverage=1.0,
        hard_vocab_limit=False,
        **options,
    )
    (folder / "made.model").rename(folder / name)
    (folder / "made.vocab").unlink()
    (folder / "text").unlink()


def wordpiece(texts, folder, encoder_dir):
    """BERT as it was pretrained, with both heads and a pooler, and the tokenizer of the real encoder."""
    load_tokenizer(encoder_dir).save_pretrained(folder)
    ids = load_tokenizer(encoder_dir).get_vocab()
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in sorted(ids, key=ids.get)))
    config = transformers.BertConfig(vocab_size=len(ids), max_position_embeddings=160, **SIZES)
    return transformers.BertForPreTraining(config)


def bpe(texts, folder, encoder_dir):
    """RoBERTa, with vocab.json and merges.txt."""
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    model = json.loads(byte_level(texts, specials).to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    made = transformers.RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=160)
    made.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    config = transformers.RobertaConfig(
        vocab_size=1500, max_position_embeddings=162, type_vocab_size=1, **SIZES
    )
    return transformers.RobertaForMaskedLM(config)


def modern(texts, folder, encoder_dir):
    """ModernBERT: byte-level BPE whose special tokens come last, and more rows than pieces."""
    backend = byte_level(texts, [])
    names = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )
    made.save_pretrained(folder)
    ids = {
        f"{name}_token_id": made.convert_tokens_to_ids(token)
        for name, token in names.items()
        if name != "unk"
    }
    config = transformers.ModernBertConfig(
        vocab_size=1536,
        **SIZES,
        **ids,
        bos_token_id=None,
        eos_token_id=ids["sep_token_id"],
        decoder_bias=True,
    )
    return transformers.ModernBertForMaskedLM(config)


def unigram(texts, folder, encoder_dir):
    """XLM-R, with nothing but sentencepiece's file."""
    sentencepiece_model(texts, folder, "sentencepiece.bpe.model")
    config = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 160}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    files.write_json(folder / "config.json", {"model_type": "xlm-roberta"})
    pieces = len(load_tokenizer(folder))
    config = transformers.XLMRobertaConfig(
        vocab_size=pieces, max_position_embeddings=162, type_vocab_size=1, **SIZES
    )
    return transformers.XLMRobertaForMaskedLM(config)


def deberta(texts, folder, encoder_dir):
    """DeBERTaV3: sentencepiece's file, relative positions, more rows than pieces."""
    sentencepiece_model(
        texts,
        folder,
        "spm.model",
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        normalization_rule_name="nmt_nfkc",
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    config = transformers.DebertaV2Config(
        vocab_size=1600,
        **SIZES,
        type_vocab_size=0,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        max_position_embeddings=160,
        max_relative_positions=-1,
    )
    return transformers.DebertaV2ForMaskedLM(config)


def t5(texts, folder, encoder_dir):
    """T5's encoder: Unigram with a hundred added tokens, no positions at all."""
    sentencepiece_model(texts, folder, "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    files.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 100})
    files.write_json(folder / "config.json", {"model_type": "t5"})
    tokenizer = load_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    config = transformers.T5Config(
        vocab_size=len(tokenizer) + 12, d_model=16, d_kv=8, d_ff=12, num_layers=2, num_heads=2
    )
    return transformers.T5ForConditionalGeneration(config)


KINDS = {
    "wordpiece": wordpiece,
    "bpe": bpe,
    "modern": modern,
    "unigram": unigram,
    "deberta": deberta,
    "t5": t5,
}


class Case:
    """A checkpoint with a tokenizer, and the same with fewer pieces."""

    def __init__(self, make, texts, folder, encoder_dir):
        self.whole, self.small = folder / "whole", folder / "small"
        self.whole.mkdir()
        draw(make(texts[0], self.whole, encoder_dir)).save_pretrained(self.whole)
        self.tokenizer = load_tokenizer(self.whole)
        model = load_model(self.whole)
        self.pieces = Pieces(self.tokenizer, named=vocabulary.named_ids(model.config))
        self.counts_P = counting.count(plain_backend(self.tokenizer), texts[0], self.pieces.size)
        size = len(self.pieces.required) + 400
        self.kept, self.trimmed = self.trim(self.small, size=size)

    def trim(self, folder, *, size, max_length=None):
        """(ids that stay, tokenizer) of a trimmed checkpoint, written into a folder."""
        kept = self.pieces.chosen(self.counts_P, size=size)
        folder.mkdir()
        made = trimmed.write_trimmed(
            self.tokenizer, self.pieces, kept, folder, source=self.whole, max_length=max_length
        )
        model = load_model(self.whole)
        vocabulary.write_trimmed(model, self.whole, folder, kept=kept, max_length=max_length)
        return kept, made


@pytest.fixture(scope="module", params=KINDS)
def case(request, texts, tmp_path_factory, encoder_dir):
    if request.param in ("unigram", "deberta", "t5"):
        pytest.importorskip("sentencepiece")
        pytest.importorskip("google.protobuf")
    return Case(KINDS[request.param], texts, tmp_path_factory.mktemp(request.param), encoder_dir)


def pairs(case, texts, length=64):
    return [*trimmed.whole_texts(case.tokenizer, case.trimmed, texts, case.kept, max_length=length)]


def some_whole(case, texts):
    """Texts all of whose pieces stay: real words, whose order does not matter here."""
    words = {word for text in texts for word in text.split()}
    known = {*case.kept.tolist()}
    whole = sorted(word for word in words if known.issuperset(case.tokenizer(f"x {word}")["input_ids"]))
    assert len(whole) > 150
    return [" ".join(whole[start : start + 12]) for start in range(0, 144, 12)]


def test_parts_of_texts_are_compared(case, texts):
    """The longest part between words with a lost piece, where no text is whole."""
    known, whole = {*case.kept.tolist()}, some_whole(case, texts[0])
    words = sorted({word for text in texts[0] for word in text.split() if word.isalpha()}, key=len)
    rare = next(word for word in words if not known.issuperset(case.tokenizer(f"x {word}")["input_ids"]))
    part = f"{whole[0]} {whole[1]}"
    ((old, _),) = pairs(case, [f"{whole[2]} {rare} {part} {rare}"])
    expected = case.tokenizer([part], truncation=True, max_length=64)["input_ids"]
    assert old["input_ids"].tolist() == expected


def has_head(case):
    return has_vocabulary_head(checkpoints.read_config(case.whole), weight_names(case.whole))


def test_where_all_pieces_stay_nothing_changes(case, texts):
    """Ids map one to one; states bit by bit, logits of masked tokens to 1e-6 of the largest."""
    real = some_whole(case, texts[0])
    compared = pairs(case, real)
    assert sum(len(new["input_ids"]) for _, new in compared) == len(real)
    before, after = load_model(case.whole), load_model(case.small)
    assert vocabulary.check_trimmed(before, after, compared, kept=case.kept) == len(real)
    if not has_head(case):
        return
    masked = [load_model(folder, kind="masked") for folder in (case.whole, case.small)]
    with torch.no_grad():
        for old, new in compared:
            wide, narrow = masked[0](**old).logits, masked[1](**new).logits
            assert narrow.shape[-1] == len(case.kept) < wide.shape[-1]
            gap = (wide[..., torch.from_numpy(case.kept)] - narrow).abs().max()
            assert gap <= 1e-6 * wide.abs().max() and wide.std() > 0.1


def test_what_was_stored_once_is_stored_once(case):
    """The same names, and ties as before."""
    stored = [vocabulary.read_weights(folder) for folder in (case.whole, case.small)]
    assert stored[0].keys() == stored[1].keys()
    for folder in (case.whole, case.small) if has_head(case) else ():
        masked = load_model(folder, kind="masked")
        assert masked.get_output_embeddings().weight is masked.get_input_embeddings().weight
    cut = {name for name in stored[0] if stored[0][name].shape != stored[1][name].shape}
    assert cut and all(len(stored[1][name]) == len(case.kept) for name in cut)
    rest = stored[0].keys() - cut
    assert all(torch.equal(stored[0][name], stored[1][name]) for name in rest)


def test_nothing_is_lost_elsewhere(case, texts):
    """Offsets cover the same characters, in as many pieces or more; unknown is what was unknown."""
    old, new = (plain_backend(tokenizer) for tokenizer in (case.tokenizer, case.trimmed))
    longer = 0
    for text in [*texts[1], *UNSEEN]:
        before, after = (backend.encode(text, add_special_tokens=False) for backend in (old, new))
        covered = [
            {place for start, end in encoding.offsets for place in range(start, end)}
            for encoding in (before, after)
        ]
        assert covered[0] == covered[1]
        unknown = case.tokenizer.unk_token
        assert after.tokens.count(unknown) == before.tokens.count(unknown)
        longer += len(after.ids) - len(before.ids)
        assert len(after.ids) >= len(before.ids)
    assert longer > 0


def test_files_agree(case, texts, tmp_path):
    """AutoTokenizer makes the same of the tokenizer's files alone, and of the slow ones without
    tokenizer.json."""
    shutil.copytree(
        case.small, tmp_path / "alone", ignore=shutil.ignore_patterns("*.safetensors", "config.json")
    )
    alone = load_tokenizer(tmp_path / "alone")
    assert [alone(text)["input_ids"] for text in texts[1]] == [
        case.trimmed(text)["input_ids"] for text in texts[1]
    ]
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path / "alone")
    assert stock(texts[1])["input_ids"] == case.trimmed(texts[1])["input_ids"]
    slow = [
        name
        for name in (
            "vocab.txt",
            "vocab.json",
            "merges.txt",
            "spm.model",
            "spiece.model",
            "sentencepiece.bpe.model",
        )
        if (case.whole / name).exists()
    ]
    assert all((case.small / name).exists() for name in slow)
    if slow:
        shutil.copy(case.small / "config.json", tmp_path / "alone")
        shutil.copy(case.whole / "tokenizer_config.json", tmp_path / "alone")  # names the slow class
        (tmp_path / "alone" / "tokenizer.json").unlink()
        made = load_tokenizer(tmp_path / "alone")
        assert made.get_vocab() == case.trimmed.get_vocab()
        assert made(texts[1])["input_ids"] == case.trimmed(texts[1])["input_ids"]


def test_what_is_kept(case):
    """As many as asked for; the most frequent ones; all that is required; ancestors of all that BPE made."""
    required = case.pieces.required
    assert len(case.kept) == len(required) + 400 and required <= {*case.kept.tolist()}
    assert {*case.tokenizer.all_special_ids} <= required
    names = {number: piece for piece, number in case.pieces.ids.items()}
    singles = {number for number, piece in names.items() if len(piece) == 1}
    assert singles <= required
    model = json.loads(case.trimmed.backend_tokenizer.to_str())["model"]
    if case.pieces.kind == "BPE":
        made = {left + right for left, right in model["merges"]}
        known = {
            piece for piece in model["vocab"] if len(piece) > 1 and "[" not in piece and "<" not in piece
        }
        assert known == made
    else:
        dropped = sorted(names.keys() - {*case.kept.tolist()})
        free = [n for n in case.kept.tolist() if n not in required]
        assert min(case.counts_P[free]) >= max(case.counts_P[dropped])
    with pytest.raises(FlagError, match=f"{len(required)} of {len(case.pieces.ids)} pieces must stay"):
        case.pieces.require_size(len(required) - 1)
    with pytest.raises(FlagError, match="expected no more"):
        case.pieces.require_size(len(case.pieces.ids) + 1)
    case.pieces.require_size(len(required))
    case.pieces.require_size(len(case.pieces.ids))
    often = case.pieces.chosen(case.counts_P, min_count=20)
    assert {*np.flatnonzero(case.counts_P >= 20).tolist()} <= {*often.tolist()}


def test_the_same_set_kept_as_lm_vocab_trimmer_defines_it(case, texts):
    """What asahi417/lm-vocab-trimmer does with a set of pieces: rows of the tables, and a vocabulary without
    the others, ids by their old order.  (Of BPE it leaves merges alone, which does not load.)"""
    if case.pieces.kind == "BPE":
        pytest.skip("not defined")
    state = json.loads(case.tokenizer.backend_tokenizer.to_str())
    ids = case.tokenizer.get_vocab()
    rank = {number: place for place, number in enumerate(sorted(case.kept.tolist()))}
    old = state["model"]["vocab"]
    if isinstance(old, list):
        state["model"]["vocab"] = [row for number, row in enumerate(old) if number in rank]
    else:
        state["model"]["vocab"] = {piece: rank[number] for piece, number in old.items() if number in rank}
    for token in state["added_tokens"]:
        token["id"] = rank[token["id"]]
    state["post_processor"] = None
    plain = Tokenizer.from_str(json.dumps({**state, "truncation": None, "padding": None}))
    ours = load_model(case.small)
    reference = type(ours).from_pretrained(case.whole, dtype=torch.float32).eval()
    table = reference.get_input_embeddings().weight[sorted(rank)]
    padding = rank[ids[case.tokenizer.pad_token]]
    reference.set_input_embeddings(torch.nn.Embedding.from_pretrained(table, padding_idx=padding))
    for text in texts[1][:20]:
        found = plain.encode(text, add_special_tokens=False).ids
        assert found == plain_backend(case.trimmed).encode(text, add_special_tokens=False).ids
        with torch.no_grad():
            states = [model(torch.tensor([found[:100]])).last_hidden_state for model in (reference, ours)]
        assert torch.equal(*states)


# ---- Positions


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_positions_that_go(kind, texts, tmp_path, encoder_dir):
    """The first ones stay, RoBERTa's behind padding; the tokenizer cuts there; longer is refused."""
    case = Case(KINDS[kind], texts, tmp_path, encoder_dir)
    kept, made = case.trim(tmp_path / "short", size=len(case.pieces.required) + 400, max_length=32)
    before, after = load_model(case.whole), load_model(tmp_path / "short")
    assert architectures.max_positions(before) == 160 and architectures.max_positions(after) == 32
    assert made.model_max_length == 32 and after.config.max_position_embeddings == 32 + 2 * (kind == "bpe")
    compared = [*trimmed.whole_texts(case.tokenizer, made, some_whole(case, texts[0]), kept, max_length=32)]
    assert max(new["input_ids"].shape[1] for _, new in compared) == 32
    assert vocabulary.check_trimmed(before, after, compared, kept=kept) > 0
    long = made(" ".join(texts[0][:20]), truncation=True, return_tensors="pt")
    assert after(**long).last_hidden_state.shape[1] == 32


def test_padding_that_moves_takes_the_positions_along(texts, tmp_path):
    """RoBERTa counts positions from its padding piece's id, which is smaller where pieces before it go."""
    specials = ["unused0", "unused1", "<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend = byte_level(texts[0], specials, size=600)
    state = json.loads(backend.to_str())
    state["added_tokens"] = state["added_tokens"][2:]  # the first two are pieces that no text has
    backend = Tokenizer.from_str(json.dumps(state))
    names = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=40,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )
    tokenizer.save_pretrained(tmp_path)
    config = transformers.RobertaConfig(
        vocab_size=600, max_position_embeddings=44, bos_token_id=2, pad_token_id=3, eos_token_id=4, **SIZES
    )
    draw(transformers.RobertaModel(config)).save_pretrained(tmp_path)
    pieces = Pieces(tokenizer, named=vocabulary.named_ids(config))
    counts_P = counting.count(backend, texts[0], 600)
    kept = pieces.chosen(counts_P, size=450)
    assert kept[:2].tolist() == [2, 3]
    (tmp_path / "small").mkdir()
    made = trimmed.write_trimmed(tokenizer, pieces, kept, tmp_path / "small", source=tmp_path)
    before = load_model(tmp_path)
    vocabulary.write_trimmed(before, tmp_path, tmp_path / "small", kept=kept)
    after = load_model(tmp_path / "small")
    assert (after.config.pad_token_id, after.config.bos_token_id, after.config.max_position_embeddings) == (
        1,
        0,
        42,
    )
    short = [text[:12] for text in texts[0]]
    compared = [*trimmed.whole_texts(tokenizer, made, short, kept, max_length=40)]
    assert vocabulary.check_trimmed(before, after, compared, kept=kept) == 64


# ---- The script


@pytest.fixture(scope="module")
def tuned(texts, tmp_path_factory, encoder_dir, data_dir):
    """A folder with a part of MRPC in data/, a fine-tuned checkpoint with the real tokenizer, nested and
    cropped, and the encoder."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "data" / "mrpc").mkdir(parents=True)
    for split, number in (("train", 500), ("dev", 80)):
        lines = (data_dir / "mrpc" / f"{split}.tsv").read_text(encoding="utf-8").split("\n")[:number]
        (folder / "data" / "mrpc" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = ("not_equivalent", "equivalent")
    config = transformers.BertConfig(
        vocab_size=30522,
        max_position_embeddings=160,
        **SIZES,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    model = draw(transformers.BertForSequenceClassification(config)).eval()
    tokenizer = load_tokenizer(encoder_dir)
    save_model(model, folder / "dense", tokenizer=tokenizer)
    save_model(model.bert, folder / "encoder", tokenizer=tokenizer)
    scores = torch.rand(2, 2), torch.rand(2, 12)
    sort_units(model, *scores, grid=[0, 50])
    save_model(model, folder / "nested", tokenizer=tokenizer)
    save_model(crop(model, 50), folder / "cropped", tokenizer=tokenizer)
    return folder


def flags_of(tuned, model, folder, *more):
    task = ["--task_name", "mrpc", "--data_dir", tuned / "data", "--use_cpu", "--output_dir", folder]
    return [*task, "--model_path", tuned / model, *more]


@pytest.mark.parametrize("model", ["dense", "nested", "cropped"])
def test_models_that_are_fine_tuned(model, tuned, tmp_path):
    """Trimmed to all pieces of the rows that are scored, they score the same; their structure stays."""
    flags = flags_of(tuned, model, tmp_path / "run", "--trim_embeddings", "--no_onnx", "--max_length", 128)
    run("run_vocabulary.py", *flags, "--vocabulary_size", 8000)
    results = files.read_json(tmp_path / "run" / "results.json")
    assert results["not_counted"]["covered"] < 1 < results["not_counted"]["growth"]
    assert results["compared"]["texts"] > 0 and results["pieces"]["after"] == 8000
    assert results["metrics"]["dev"].keys() == results["metrics_before"]["dev"].keys()
    assert abs(results["metrics"]["dev"]["acc"] - results["metrics_before"]["dev"]["acc"]) < 0.3
    assert results["sizes"][0]["parameters"] - results["sizes"][1]["parameters"] == 16 * (22522 + 32)
    config = files.read_json(tmp_path / "run" / "ckpt" / "config.json")
    whole = files.read_json(tuned / model / "config.json")
    assert config["vocab_size"] == 8000 and config.get("compression") == whole.get("compression")
    if model != "dense":
        return
    again = run("run_vocabulary.py", *flags, "--vocabulary_size", 8000)
    assert "finished before" in again.stderr and again.stdout.strip() == str(tmp_path / "run" / "ckpt")


def test_a_pretrained_model_with_a_corpus(tuned, texts, tmp_path):
    """Task and corpus are weighed alike; sizes as graphs; the picture; the checkpoint can be fine-tuned."""
    pytest.importorskip("onnxscript")
    (tmp_path / "text.txt").write_text("\n".join(texts[1]))
    flags = flags_of(
        tuned, "encoder", tmp_path / "run", "--corpus", tmp_path / "text.txt", "--sample_by", "line"
    )
    run("run_vocabulary.py", *flags, "--min_count", 2)
    results = files.read_json(tmp_path / "run" / "results.json")
    before, after = results["sizes"]
    assert before["onnx int8"] - after["onnx int8"] == pytest.approx(
        16 * (results["pieces"]["before"] - results["pieces"]["after"]), rel=0.05
    )
    assert {*results["counted"]} == {"task", "corpus"} and (tmp_path / "run" / "growth.png").exists()
    growths = [row["growth"] for row in results["curve"]]
    assert growths == sorted(growths, reverse=True) and growths[-1] == 1
    card = (tmp_path / "run" / "ckpt" / "README.md").read_text()
    assert "counted in | `text.txt`" in card and "a smaller vocabulary" in card
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"next: python run_finetuning.py --model_path {tmp_path / 'run'} --task_name mrpc" in log
    train = flags_of(tuned, "encoder", tmp_path / "tuned", "--max_steps", 1, "--model_path", tmp_path / "run")
    run("run_finetuning.py", *train)
    config = files.read_json(tmp_path / "tuned" / "ckpt" / "config.json")
    assert config["vocab_size"] == results["pieces"]["after"]


BAD = [
    (["--vocabulary_size", 40000], ["40000", "30522 pieces"]),
    (["--vocabulary_size", 1000], ["1000", "1999 of 30522 pieces must stay"]),
    ([*"--vocabulary_size 5000 --max_length 999".split()], ["--max_length 999", "160 positions"]),
    ([*"--vocabulary_size 5000 --min_count 2".split()], ["expected one of them"]),
    ([*"--vocabulary_size 5000 --corpus {empty}".split()], ["--corpus", "no text"]),
    ([*"--vocabulary_size 5000 --corpus {built}".split()], ["built: holds ids"]),
    (
        [*"--vocabulary_size 5000 --trim_embeddings".split()],
        ["no head for classification", "leave the flag out"],
    ),
    ([*"--vocabulary_size 5000 --model_path {dense}".split()], ["is fine-tuned", "--trim_embeddings"]),
    ([*"--vocabulary_size 5000 --model_path {words}".split()], ["WordLevel", "WordPiece, BPE, Unigram"]),
    ([*"--vocabulary_size 5000 --task_weight 2".split()], ["--task_weight"]),
    ([*"--vocabulary_size 5000 --sample_by line --num_best 3".split()], ["--sample_by", "--num_best"]),
]


@pytest.fixture(scope="module")
def places(tuned, tmp_path_factory):
    """An empty text, a built corpus, a fine-tuned model, and one whose tokenizer knows whole words."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.txt").write_text("\n \n")
    (folder / "built").mkdir()
    (folder / "built" / "corpus.json").write_text("{}")
    shutil.copytree(tuned / "encoder", folder / "words")
    words = ["[PAD]", "[UNK]", *(f"w{number}" for number in range(30000))]
    backend = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    )
    made.save_pretrained(folder / "words")
    names = {"empty": folder / "empty.txt", "built": folder / "built", "words": folder / "words"}
    return {**names, "dense": tuned / "dense"}


@pytest.mark.parametrize("more, said", BAD)
def test_what_cannot_be(more, said, tuned, places, tmp_path):
    """One message, without a traceback, and nothing on the disk."""
    words = [str(word).format_map(places) for word in more]
    words = [str(word) for word in flags_of(tuned, "encoder", tmp_path / "run", "--no_onnx", *words)]
    with pytest.raises(UserError) as error:
        run_vocabulary.main(run_vocabulary.parse(words))
    for part in said:
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


# ---- Students whose vocabulary is a part of their teacher's


@pytest.fixture(scope="module")
def student(tuned, tmp_path_factory):
    """The run folder of the fine-tuned model with fewer pieces."""
    folder = tmp_path_factory.mktemp("student") / "run"
    run(
        "run_vocabulary.py",
        *flags_of(tuned, "dense", folder, "--trim_embeddings", "--no_onnx"),
        "--vocabulary_size",
        4000,
    )
    return folder


def test_the_teacher_reads_its_own_ids(tuned, student):
    """Its logits for a row are those that it gives to the row's text; kept ones are the same."""
    task = tasks.get("mrpc")
    options = {"data_dir": tuned / "data", "max_length": 128}
    theirs = TaskData(task, tokenizer_path=tuned / "dense", **options)
    ours = theirs.for_student(student)
    assert theirs.for_student(tuned / "nested") is theirs and len(ours.tokenizer) == 4000
    teacher = load_model(tuned / "dense", kind="classification", label_names=task.label_names)
    outputs = [
        FrozenOutputs(teacher, layers=[], precision="fp32", reads=reads)
        for reads in (theirs.train, theirs.train, None)
    ]
    outputs[1].cache(ours.train, batch_size=16, where="memory")
    indices = ours.train.epoch(0, 0, 8)[0]
    assert ours.train.lengths[indices].sum() > theirs.train.lengths[indices].sum()
    direct = outputs[2](theirs.train.collate(indices))[0]
    for each in outputs[:2]:
        torch.testing.assert_close(each(ours.train.collate(indices))[0], direct, rtol=0, atol=1e-5)
    assert torch.equal(outputs[0](ours.train.collate(indices))[0], direct)


def test_objectives_of_whole_texts_alone(tuned, student, tmp_path):
    """Soft labels teach; hidden states are refused, and so are a teacher with fewer pieces and filters of all
    tokens."""
    words = ["--teacher_model_path", tuned / "dense", "--student_model_path", student, "--max_steps", 2]
    common = flags_of(tuned, "dense", tmp_path / "run")[:-2]
    for cached in ([], ["--cache_teacher"]):
        run("run_distillation.py", *common, *words, *cached, "--model_type", "kd", "--overwrite")
        results = files.read_json(tmp_path / "run" / "results.json")
        assert results["num_steps"] == 2 and results["teacher_metrics"]["dev"]
        assert files.read_json(tmp_path / "run" / "ckpt" / "config.json")["vocab_size"] == 4000
    refused = [
        (["run_distillation.py", *words], "hidden would compare them one by one"),
        (["run_ted.py", *"--mode lwd --mse_alpha 1 --kl_alpha 1".split(), *words], "mse would compare"),
        (
            [
                "run_distillation.py",
                *words,
                *f"--teacher_model_path {student} --student_model_path {tuned / 'dense'}".split(),
                *"--model_type kd".split(),
            ],
            "another vocabulary",
        ),
    ]
    for (script, *flags), said in refused:
        done = run(script, *common[:-2], "--output_dir", tmp_path / "other", *flags, code=2)
        assert said in done.stderr and not (tmp_path / "other").exists()


def test_filters_of_means(tuned, student, tmp_path):
    """TED through filters of the mean token, each learned on the ids that its model reads."""
    common = [*flags_of(tuned, "dense", tmp_path / "run")[:5], "--max_steps", 2]
    for name, model in (("theirs", tuned / "dense"), ("ours", student)):
        run(
            "run_ted.py",
            *common,
            *f"--output_dir {tmp_path / name} --mode filters --model_path {model}".split(),
            *"--filter_token mean".split(),
        )
    run(
        "run_vocabulary.py",
        *common[:5],
        *f"--output_dir {tmp_path / 'fewer'} --model_path {tmp_path / 'theirs'}".split(),
        *"--trim_embeddings --no_onnx --vocabulary_size 4000".split(),
    )
    for name in ("filters.json", "filters.safetensors"):
        stored = [(tmp_path / folder / "ckpt" / name).read_bytes() for folder in ("theirs", "fewer")]
        assert stored[0] == stored[1]
    run(
        "run_ted.py",
        *common,
        *f"--output_dir {tmp_path / 'run'} --mode ted".split(),
        *f"--teacher_model_path {tmp_path / 'theirs'}".split(),
        *f"--student_model_path {tmp_path / 'ours'} --student_init stage1 --mse_alpha 1".split(),
        *"--kl_alpha 1".split(),
    )
    assert files.read_json(tmp_path / "run" / "ckpt" / "config.json")["vocab_size"] == 4000


# ---- Every family


@pytest.mark.parametrize("case", tiny_models.CASES)
def test_every_family(case, tmp_path):
    """Fewer pieces and, where they have a table, positions: the same states and logits of a task."""
    model_type = tiny_models.CASES[case][0]
    kinds = [None, families.of(model_type).tasks[0]]
    for kind in kinds + ["masked"] * bool(families.of(model_type).vocabulary):
        whole, small = tmp_path / f"{kind}", tmp_path / f"{kind}_small"
        small.mkdir()
        save_model(tiny_models.build(case, kind=kind, dtype=torch.float32), whole)
        # No part of a model is as wide as the vocabulary but its tables of pieces, and of positions
        kept = np.array([0, 1, 2, 3, *range(7, tiny_models.VOCABULARY, 2)])
        before = load_model(whole, kind=kind)
        vocabulary.write_trimmed(before, whole, small, kept=kept, max_length=9)
        after = load_model(small, kind=kind)
        new = tiny_models.inputs()
        new["input_ids"] %= len(kept)
        old = {**new, "input_ids": torch.from_numpy(kept)[new["input_ids"]]}
        with torch.no_grad():
            if kind == "masked":
                outputs = before(**old).logits[..., torch.from_numpy(kept)], after(**new).logits
                torch.testing.assert_close(*outputs, rtol=1e-6, atol=1e-6)
            else:
                assert vocabulary.check_trimmed(before, after, [(old, new)], kept=kept) == 3
        assert architectures.max_positions(after) in (None, 9)
        assert after.get_input_embeddings().num_embeddings == len(kept)
