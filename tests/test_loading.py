"""Checkpoints in and out: nothing is re-initialised in silence, and each thing that is wrong is said in one
message."""

import hashlib
import json
import logging
import re
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import build, inputs, nest, output, sliced

import models
from models import architectures
from utils import checkpoints, families
from utils.errors import CheckpointError

LABELS = ("no", "perhaps", "yes")


@pytest.fixture
def checkpoint(tmp_path):
    """A BERT fine-tuned for classification with three labels."""
    model = build(
        dtype=torch.float32,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    models.save_model(model, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def encoder(tmp_path):
    """A bare BERT."""
    models.save_model(build(kind=None, dtype=torch.float32), tmp_path / "encoder")
    return tmp_path / "encoder"


def edit(folder, change):
    """Change a checkpoint's weights: change(tensors) in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder, **settings):
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value is not None})
    )


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickle_only(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def sharded(folder):
    """An index that names a shard which is not there."""
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"classifier.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_round_trip(checkpoint):
    before = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    model = models.load_model(checkpoint, kind="classification", label_names=LABELS)
    assert not model.training and all(
        p.dtype == torch.float32 and p.requires_grad for p in model.parameters()
    )
    models.save_model(model, checkpoint)
    assert hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest() == before
    assert sorted(file.name for file in checkpoint.iterdir()) == ["config.json", "model.safetensors"]
    assert checkpoints.fingerprint(checkpoint) == checkpoints.fingerprint(str(checkpoint))


@pytest.mark.parametrize(
    "damage, message",
    [
        (cut, r"model.safetensors: damaged or cut off"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b""),
            r"model.safetensors: damaged or cut off",
        ),
        (pickle_only, r"only pickled weights \(pytorch_model.bin\).*convert them where you trust them"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model.safetensors: not found"),
        (sharded, r"model-00001-of-00001.safetensors: not found"),
        (
            lambda folder: (folder / "config.json").unlink(),
            r"neither a checkpoint \(config.json\) nor a run folder",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), r"config.json: not valid JSON"),
        (
            lambda folder: edit_config(folder, model_type="nonsense"),
            r"model_type 'nonsense' is not supported",
        ),
        (lambda folder: edit_config(folder, hidden_size=32), r"53 of another size: .*\[16\], not \[32\]"),
        (
            lambda folder: edit(
                folder, lambda tensors: tensors.pop("bert.encoder.layer.1.output.dense.bias")
            ),
            r"do not fit a BertForSequenceClassification: 1 missing: bert.encoder.layer.1.output.dense.bias",
        ),
        (
            lambda folder: edit(folder, lambda tensors: tensors.pop("classifier.weight")),
            r"1 missing: classifier.weight",
        ),
        (
            lambda folder: edit(folder, lambda tensors: tensors.update({"bert.extra.weight": torch.ones(2)})),
            r"1 unexpected: bert.extra.weight",
        ),
        (lambda folder: edit_config(folder, num_hidden_layers=2), r"16 unexpected: bert.encoder.layer.2"),
        (lambda folder: edit_config(folder, num_hidden_layers=4), r"16 missing: bert.encoder.layer.3"),
    ],
)
@pytest.mark.parametrize("new_head", [False, True])
def test_damaged(checkpoint, damage, message, new_head):
    damage(checkpoint)
    with pytest.raises(CheckpointError) as error:
        models.load_model(checkpoint, kind="classification", label_names=LABELS, new_head=new_head)
    assert re.search(message, str(error.value)) and str(checkpoint) in str(error.value)


@pytest.mark.parametrize(
    "path, message",
    [
        ("outputs/nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        (
            "nobody/nothing-of-this-name",
            "neither a folder here nor a model that can be had from the Hugging Face hub",
        ),
    ],
)
def test_nothing_there(path, message):
    with pytest.raises(CheckpointError, match=f"^{path}: {message}"):
        models.load_model(path)


@pytest.mark.parametrize(
    "settings, kind, label_names, message",
    [
        (
            {},
            "classification",
            ("yes", "perhaps", "never"),
            r"checkpoint: 0 no, 1 perhaps, 2 yes\n  task:       0 yes, 1 perhaps, 2 never",
        ),
        (
            {},
            "classification",
            ("no", "yes"),
            r"checkpoint: 0 no, 1 perhaps, 2 yes\n  task:       0 no, 1 yes",
        ),
        ({}, "regression", (), r"one output, this checkpoint's has 3 labels"),
        (
            {},
            "tagging",
            LABELS,
            r"has a head for classification, multilabel or regression, the task is tagging",
        ),
        ({}, "spans", (), r"has a head for classification, multilabel or regression, the task is spans"),
        (
            {"id2label": None, "label2id": None, "num_labels": 3},
            "classification",
            ("a", "b"),
            r"0 LABEL_0, 1 LABEL_1, 2 LABEL_2",
        ),
        ({"id2label": None}, "classification", ("yes", "perhaps", "or"), r"0 no, 1 perhaps, 2 yes"),
    ],
)
def test_another_task(checkpoint, settings, kind, label_names, message):
    edit_config(checkpoint, **settings)
    with pytest.raises(CheckpointError, match=message):
        models.load_model(checkpoint, kind=kind, label_names=label_names, new_head=True)


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_labels_in_another_order(kind, checkpoint, encoder, tmp_path, caplog):
    """The head's rows go with their labels: each label has the same logit as before, and this is said."""
    caplog.set_level(logging.INFO, "compression")
    names, order = LABELS, ("yes", "No", "perhaps")
    if kind == "tagging":
        names, order = ("O", "B-X", "I-X"), ("I-X", "O", "B-X")
        tagger = models.load_model(encoder, kind=kind, label_names=names, new_head=True)
        checkpoint = tmp_path / "tagger"
        models.save_model(tagger, checkpoint)
    before = models.load_model(checkpoint, kind=kind, label_names=names)
    after = models.load_model(checkpoint, kind=kind, label_names=order)
    logits = [model(**inputs()).logits for model in (before, after)]
    for number, name in enumerate(order):
        old = [known.casefold() for known in names].index(name.casefold())
        assert torch.equal(logits[1][..., number], logits[0][..., old]), name
    assert after.config.id2label == dict(enumerate(order)) and "labels stand in another order" in caplog.text
    models.save_model(after, tmp_path / "saved")
    again = models.load_model(tmp_path / "saved", kind=kind, label_names=order)(**inputs()).logits
    assert torch.equal(again, logits[1])


def test_unnamed_labels_need_names(checkpoint):
    """LABEL_0 and so on mean nothing; said what they are, in their order, they are those of the task."""
    before = models.load_model(checkpoint, kind="classification", label_names=LABELS)
    edit_config(checkpoint, id2label={str(i): f"LABEL_{i}" for i in range(3)}, label2id=None)
    with pytest.raises(CheckpointError, match=r"does not name its 3 labels.*--label_names no,perhaps,yes"):
        models.load_model(checkpoint, kind="classification", label_names=LABELS)
    with pytest.raises(CheckpointError, match=r"found --label_names: no,yes"):
        models.load_model(checkpoint, kind="classification", label_names=LABELS, unnamed_labels=["no", "yes"])
    options = {"kind": "classification", "label_names": LABELS}
    model = models.load_model(checkpoint, unnamed_labels=["no", "perhaps", "yes"], **options)
    assert model.config.id2label == dict(enumerate(LABELS)) and model.config.label2id["yes"] == 2
    turned = models.load_model(checkpoint, unnamed_labels=["yes", "perhaps", "no"], **options)
    logits = [each(**inputs()).logits for each in (before, model, turned)]
    assert torch.equal(logits[1], logits[0]) and torch.equal(logits[2], logits[0].flip(-1))


@pytest.mark.parametrize(
    "kind, names",
    [
        ("classification", LABELS),
        ("classification", ("a", "b")),
        ("regression", ()),
        ("tagging", ("O", "B-X")),
    ],
)
def test_a_head_is_dropped(checkpoint, kind, names, caplog):
    """The encoder stays bit by bit; the head is the one that a stock model begins with."""
    caplog.set_level(logging.INFO, "compression")
    before = models.load_model(checkpoint, kind="classification", label_names=LABELS)
    torch.manual_seed(3)
    model = models.load_model(checkpoint, kind=kind, label_names=names, drop_head=True)
    assert "its head is dropped" in caplog.text
    kept = {name: tensor for name, tensor in before.state_dict().items() if "classifier" not in name}
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in kept.items() if name in found)
    assert model.classifier.out_features == (len(names) or 1) and not model.classifier.bias.any()
    weight = model.classifier.weight
    assert not torch.equal(weight, before.classifier.weight[: len(weight)])
    assert 0.5 < weight.std() / model.config.initializer_range < 1.5


def test_upper_case_labels(checkpoint):
    edit_config(checkpoint, id2label=dict(enumerate(name.upper() for name in LABELS)), label2id=None)
    models.load_model(checkpoint, kind="classification", label_names=LABELS)  # MNLI checkpoints shout


@pytest.mark.parametrize(
    "kind, names", [("classification", LABELS), ("regression", ()), ("tagging", ("O", "B-X")), ("spans", ())]
)
def test_new_head(encoder, kind, names, caplog):
    """Only the head is new, and it is the stock one from torch's random state."""
    with pytest.raises(CheckpointError, match=r"no task head \(BertModel\).*run_finetuning.py"):
        models.load_model(encoder, kind=kind, label_names=names)
    caplog.set_level(logging.INFO, "compression")
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = models.load_model(encoder, kind=kind, label_names=names, new_head=True)
        heads.append([p.detach() for name, p in model.named_parameters() if not name.startswith("bert.")])
    assert all(torch.equal(a, b) for a, b in zip(heads[0], heads[1])) and not torch.equal(
        heads[0][0], heads[2][0]
    )
    head = {"spans": "qa_outputs"}.get(kind, "classifier")
    assert f"new, randomly initialised: {head}.bias, {head}.weight" in caplog.text
    assert heads[0][0].shape == ({"regression": 1, "spans": 2}.get(kind, len(names)), 16)
    stored = load_file(encoder / "model.safetensors")
    for name, parameter in model.base_model.named_parameters():
        assert torch.equal(parameter, stored[name]), name
    if kind in ("classification", "tagging"):
        assert tuple(model.config.id2label.values()) == names
    if kind == "regression":
        assert model.config.num_labels == 1 and model.config.problem_type == "regression"


def test_inputs_longer_than_the_positions_are_refused(checkpoint):
    most = models.load_model(checkpoint, kind="classification").config.max_position_embeddings
    models.load_model(checkpoint, kind="classification", max_length=most)
    with pytest.raises(
        CheckpointError, match=f"found {most} positions; --max_length {most + 1} needs as many"
    ):
        models.load_model(checkpoint, kind="classification", max_length=most + 1)


def test_a_missing_pooler_is_part_of_the_head(encoder, caplog):
    edit(encoder, lambda tensors: [tensors.pop(name) for name in [*tensors] if name.startswith("pooler.")])
    caplog.set_level(logging.INFO, "compression")
    models.load_model(encoder, kind="classification", label_names=LABELS, new_head=True)
    assert (
        "bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias, classifier.weight" in caplog.text
    )
    bare = models.load_model(encoder)
    assert bare.pooler is None
    models.save_model(models.crop(nest(bare), 80), encoder)
    again = models.load_model(encoder)
    assert again.pooler is None and torch.equal(output(again), output(models.crop(bare, 80)))


def test_pretraining_heads_may_be_left_over(tmp_path):
    model = transformers.BertForPreTraining(build(kind=None).config)
    models.save_model(model, tmp_path)
    # It has no pooler, either
    task = models.load_model(tmp_path, kind="tagging", label_names=LABELS, new_head=True)
    assert torch.equal(
        models.encoder(task).embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight
    )
    base = models.load_model(tmp_path)
    assert torch.equal(base.pooler.dense.weight, model.bert.pooler.dense.weight)


@pytest.mark.parametrize(
    "case, kind", [(name, kind) for name, row in families.FAMILIES.items() for kind in row.tasks]
)
def test_the_encoder_of_a_task_model(case, kind, tmp_path):
    """With kind None the head is left aside, for stock and for cropped models; encoders without pooler stay
    without."""
    nested = nest(build(case, kind=kind, dtype=torch.float32))
    for model in (models.export_dense(nested), models.crop(nested, 80)):
        models.save_model(model, tmp_path)
        base = models.load_model(tmp_path)
        assert base.base_model is base
        states = model(**inputs(), output_hidden_states=True).hidden_states[-1]
        assert torch.equal(base(**inputs()).last_hidden_state, states)


def test_the_decoder_of_t5_is_left_aside(tmp_path):
    whole = transformers.T5ForConditionalGeneration(build("t5", kind=None).config).eval()
    whole.config.is_encoder_decoder = True
    models.save_model(whole, tmp_path)
    for model in (
        models.load_model(tmp_path),
        models.load_model(tmp_path, kind="tagging", label_names=LABELS, new_head=True),
    ):
        states = models.encoder(model)(**inputs()).last_hidden_state
        assert torch.equal(states, whole.encoder(**inputs()).last_hidden_state)


def test_a_loaded_model_does_not_hang_on_its_file(checkpoint):
    """transformers maps the file: rounding would depend on where in it a weight stands, and replacing it
    would be fatal."""
    model = models.load_model(checkpoint, kind="classification", label_names=LABELS)
    assert {parameter.data_ptr() % 16 for parameter in model.parameters()} == {0}
    before = output(model)
    edit(checkpoint, lambda tensors: [tensor.zero_() for tensor in tensors.values()])
    assert torch.equal(output(model), before)


def test_tied_and_sliced_weights_are_saved_whole(tmp_path):
    model = nest(build("t5", kind="tagging", dtype=torch.float32))
    with sliced(model, 90):
        models.save_model(model, tmp_path)
    again = models.load_model(tmp_path, kind="tagging")
    assert torch.equal(output(again), output(model))
    assert again.transformer.shared.weight is again.transformer.encoder.embed_tokens.weight
    assert "transformer.encoder.embed_tokens.weight" not in load_file(tmp_path / "model.safetensors")


def test_run_folders(checkpoint):
    run = checkpoint.parent / "run"
    run.mkdir()
    (run / "args.json").write_text("{}")
    checkpoint.rename(run / "ckpt")
    with pytest.raises(CheckpointError, match="has not finished"):
        models.load_model(run, kind="classification")
    (run / "results.json").write_text("{}")
    assert checkpoints.fingerprint(run) == checkpoints.fingerprint(run / "ckpt")
    models.load_model(run, kind="classification", label_names=LABELS)


def test_a_tokenizer_of_a_cropped_model(encoder_dir, tmp_path):
    """The real encoder: stored in half precision, without a head; its tokenizer loads beside a cropped
    model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder_dir)
    stored = load_file(encoder_dir / "model.safetensors")
    model = models.load_model(encoder_dir, kind="classification", label_names=("no", "yes"), new_head=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, parameter in models.encoder(model).named_parameters():
        assert torch.equal(parameter, stored[name].float())
    generator = torch.Generator().manual_seed(0)
    models.sort_units(
        model, torch.rand(6, 12, generator=generator), torch.rand(6, 1536, generator=generator), grid=[90]
    )
    models.save_model(models.crop(model, 90), tmp_path, tokenizer=tokenizer)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again("a sentence", "and another").input_ids == tokenizer("a sentence", "and another").input_ids
    small = models.load_model(tmp_path, kind="classification", label_names=("no", "yes"))
    assert models.describe(small)["encoder_parameters"] < 0.11 * models.describe(model)["encoder_parameters"]


def test_importing_models_is_cheap_and_enough(tmp_path):
    """In a fresh process: no modelling code is imported with the package, and then the Auto classes load a
    cropped model."""
    models.save_model(models.crop(nest(build("mpnet", dtype=torch.float32)), 90), tmp_path)
    code = (
        "import sys, models; loaded = [m for m in sys.modules if '.modeling_' in m and "
        "'transformers.models.' in m "
        "and not m.endswith('modeling_auto')]; assert not loaded, loaded\n"
        "from transformers import AutoConfig, AutoModelForSequenceClassification as Auto\n"
        f"model = Auto.from_pretrained({str(tmp_path)!r})\n"
        "assert type(model).__name__ == 'SparseMPNetForSequenceClassification', type(model)\n"
        f"assert AutoConfig.from_pretrained({str(tmp_path)!r}).model_type == 'sparse-mpnet'"
    )
    root = architectures.__file__.rsplit("/models/", 1)[0]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)


def test_freeze():
    model = models.freeze(build().train())
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    assert models.crop(nest(model), 50).classifier.weight.requires_grad, (
        "a student of a frozen teacher is trained"
    )


def test_a_hub_that_cannot_be_reached_is_tried_once(monkeypatch):
    """The library tries five times; another name, and the same again, are answered by what is known."""
    import huggingface_hub

    tried = []

    def download(name, file, *, local_files_only):
        tried.append(local_files_only)
        raise huggingface_hub.errors.LocalEntryNotFoundError("nothing") from OSError("no network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(checkpoints, "_out_of_reach", [])
    for name in ("nobody/one", "nobody/two", "nobody/one"):
        with pytest.raises(CheckpointError, match=rf"{name}: .*\(no network\).*HF_HUB_OFFLINE=1"):
            checkpoints.read_config(name)
    assert tried == [False, True, True]
