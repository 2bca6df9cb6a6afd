"""DeBERTaV3 checkpoints as the hub has them: an spm.model without tokenizer.json, weights in fp16."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_squad
import torch
import transformers
from commands import ROOT

import models
from data import tasks
from data.model_tokenizer import encoding_hash, load_tokenizer, tokenizer_hash
from data.squad.question_split import SpanOptions
from data.tokenising import tokenise_examples
from models import architectures
from utils import flags

# Ligature, fraction, full-width letters, an accent apart from its letter, blanks: NFC alone leaves the first
# three as they are
TEXTS = [
    "\ufb01ne",
    "\u00bd of it",
    "\uff21\uff22\uff23 lives",
    "cafe\u0301",
    "  alice \n lives\t in  rome ",
    "rome .",
    "\u2460",
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder like microsoft/deberta-v3-xsmall, small: a sentencepiece model trained here, no
    tokenizer.json, fp16 weights."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("hub")
    text = folder / "text.txt"
    sentences = [
        tiny_squad.SENTENCE.format(person, town) for person in tiny_squad.PEOPLE for town in tiny_squad.TOWNS
    ]
    text.write_text(
        "\n".join([*sentences, "fine 1/2 of it, 12 ABC caf\u00e9", "1\u20442 A B C", "fine fine"]),
        encoding="utf-8",
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spm"),
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        normalization_rule_name="nmt_nfkc",
        character_coverage=1.0,
    )
    for name in ("spm.vocab", "text.txt"):
        (folder / name).unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    config = transformers.DebertaV2Config(
        vocab_size=130,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        type_vocab_size=0,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        max_position_embeddings=64,
        max_relative_positions=-1,
    )
    transformers.DebertaV2Model(config).to(torch.float16).save_pretrained(folder)
    return folder


def pieces(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_texts_become_the_pieces_of_pretraining(hub):
    """Those that sentencepiece itself makes; the stock class makes others, which is why the normaliser is put
    back."""
    import sentencepiece

    original = sentencepiece.SentencePieceProcessor(model_file=str(hub / "spm.model"))
    ours, stock = load_tokenizer(hub), transformers.AutoTokenizer.from_pretrained(hub)
    assert [pieces(ours, text) for text in TEXTS] == [original.encode(text, out_type=str) for text in TEXTS]
    assert [pieces(stock, text) == pieces(ours, text) for text in TEXTS[:3]] == [False] * 3
    assert pieces(ours, TEXTS[0]) == pieces(ours, "fine") and pieces(ours, TEXTS[2]) == pieces(
        ours, "ABC lives"
    )
    assert tokenizer_hash(ours) == tokenizer_hash(stock) and ours.mask_token_id == stock.mask_token_id
    assert encoding_hash(ours) != encoding_hash(stock)
    assert ours("alice", "bob") == stock("alice", "bob")


def test_a_saved_tokenizer_opens_with_the_stock_classes(hub, tmp_path):
    tokenizer = load_tokenizer(hub)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((hub / "config.json").read_text())
    for again in (load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)):
        assert [pieces(again, text) for text in TEXTS] == [pieces(tokenizer, text) for text in TEXTS]
        assert again("alice", "bob") == tokenizer("alice", "bob")
        assert encoding_hash(again) == encoding_hash(tokenizer)


def test_the_normaliser_of_a_tokenizer_file_is_kept(hub, tmp_path):
    """A checkpoint of transformers 4: tokenizer.json with the right normaliser, and a class whose own would
    replace it."""
    load_tokenizer(hub).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((hub / "config.json").read_text())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({**settings, "tokenizer_class": "DebertaV2Tokenizer"})
    )
    found = load_tokenizer(tmp_path)
    assert [pieces(found, text) for text in TEXTS] == [pieces(load_tokenizer(hub), text) for text in TEXTS]


@pytest.mark.parametrize("absent", ["sentencepiece", "google.protobuf"])
def test_missing_packages_are_named(hub, tmp_path, absent):
    """Of DeBERTaV3's vocabulary and of T5's, in a process that has not got them."""
    shutil.copy(hub / "spm.model", tmp_path / "spiece.model")
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    code = (
        f"import sys; sys.modules[{absent!r}] = None\nfrom data.model_tokenizer import load_tokenizer\n"
        f"for folder in {[str(hub), str(tmp_path)]}:\n    try:\n        load_tokenizer(folder)\n"
        "    except ValueError as error:\n        print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for folder, line in zip((hub, tmp_path), done.stdout.splitlines(), strict=True):
        assert line.startswith(
            f"{folder}: its tokenizer is a sentencepiece model without a tokenizer.json; reading it needs"
        )
        assert line.endswith(
            f"needs {absent.removeprefix('google.')}: pip install -r requirements-sentencepiece.txt"
        )


def test_half_precision_weights_become_float32(hub):
    from safetensors.torch import load_file

    stored = load_file(hub / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    model = models.load_model(hub, kind="spans", new_head=True)
    assert {parameter.dtype for parameter in model.parameters()} == {
        torch.float32
    } and model.qa_outputs.out_features == 2
    found = dict(model.deberta.named_parameters())
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in stored.items())


def test_pickled_weights_become_safetensors(hub, tmp_path):
    """What the hub has of DeBERTaV3: a pickle with the heads of pretraining; tensors are read from it and
    nothing is run."""
    from commands import run
    from safetensors.torch import load_file

    tensors = {f"deberta.{name}": tensor for name, tensor in load_file(hub / "model.safetensors").items()}
    tensors |= {
        "lm_predictions.lm_head.bias": torch.zeros(130),
        "mask_predictions.dense.weight": torch.ones(16, 16).T,
    }
    source, folder = tmp_path / "source", tmp_path / "made" / "xsmall"
    shutil.copytree(hub, source)
    (source / "model.safetensors").unlink()
    torch.save(tensors, source / "pytorch_model.bin")
    run("deberta_scripts/get_model.py", source, folder)
    found = load_file(folder / "model.safetensors")
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in found)
    assert found["deberta.encoder.LayerNorm.weight"].dtype == torch.float16 and not list(
        folder.parent.glob("*.tmp")
    )
    before, after = (dict(models.load_model(path).named_parameters()) for path in (hub, folder))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert [pieces(load_tokenizer(folder), text) for text in TEXTS] == [
        pieces(load_tokenizer(hub), text) for text in TEXTS
    ]

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "boom",)

    torch.save({"weight": Bomb()}, source / "pytorch_model.bin")
    done = subprocess.run(
        [sys.executable, ROOT / "deberta_scripts/get_model.py", source, folder],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 2 and "nothing of it was run" in done.stderr and not (tmp_path / "boom").exists()
    )
    assert load_file(folder / "model.safetensors").keys() == tensors.keys()  # what was there is left


@pytest.mark.parametrize("layers, hidden, heads, neurons, parameters, embedding", [
    (12, 768, 12, 3072, 183_833_090, 98_380_800), (12, 384, 6, 1536, 70_682_882, 49_190_400),
])  # fmt: skip
def test_golden_sizes(layers, hidden, heads, neurons, parameters, embedding):
    """DeBERTaV3-base and -xsmall with a head for spans, from the hub's settings (p2c|c2p is one text
    there)."""
    config = transformers.DebertaV2Config(
        vocab_size=128100,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=neurons,
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        layer_norm_eps=1e-7,
        max_relative_positions=-1,
        position_biased_input=False,
        type_vocab_size=0,
        num_labels=2,
    )
    with torch.device("meta"):
        model = transformers.DebertaV2ForQuestionAnswering(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.deberta.embeddings.word_embeddings.weight.numel() == embedding
    assert architectures.max_positions(model) is None and len(models.layers(model)) == layers
    assert model.deberta.encoder.layer[0].attention.self.pos_att_type == ["p2c", "c2p"]


def test_training_in_bf16_stays_finite(hub, tmp_path):
    """A few updates of start and end losses under autocast; padded rows, offsets with blanks, answers found
    again."""
    from modules.objectives import Objective

    tiny_squad.write(tmp_path)
    task, tokenizer = tasks.get("squad2"), load_tokenizer(hub)
    split = tokenise_examples(
        task.read(tmp_path, "train"),
        tokenizer,
        task=task,
        max_length=64,
        spans=SpanOptions(**{**flags.SPANS, "doc_stride": 8}),
    )
    model = models.load_model(hub, kind="spans", new_head=True).train()
    optimizer, objective = torch.optim.AdamW(model.parameters(), lr=1e-3), Objective("ft", "spans", layers=[])
    for indices in split.epoch(0, 0, 8):
        with torch.autocast("cpu", torch.bfloat16):
            (loss,) = objective(model, split.collate(indices), None).values()
        loss.backward()
        assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    for row in range(len(split)):
        first, last = split._labels[row] - split._context_starts[row] + split._begins[row]
        owner = split._owners[row]
        if split._labels[row, 0] != split._cls:
            text = split.examples.second[owner][split._offsets[first, 0] : split._offsets[last, 1]]
            assert text == split.examples.labels[owner][0][1]


def test_through_the_script(hub, tmp_path):
    """Fine-tuned and saved, model and tokenizer load with the stock classes and tokenise as before."""
    from commands import run

    data = tiny_squad.write(tmp_path / "data")
    run(
        "run_finetuning.py",
        *f"--task_name squad2 --data_dir {data} --model_path {hub} --use_cpu".split(),
        *f"--max_length 64 --doc_stride 8 --max_steps 3 --output_dir {tmp_path / 'run'}".split(),
    )
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "ckpt")
    assert [pieces(again, text) for text in TEXTS] == [pieces(load_tokenizer(hub), text) for text in TEXTS]
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "run" / "ckpt")
    assert model.dtype == torch.float32 and model.config.model_type == "deberta-v2"
