"""Exports: dense, compact, graph and the model itself agree; cards load what they describe; other things are
refused."""

import ast
import subprocess
import sys

import numpy as np
import pytest
import tiny_models
import torch
from commands import ROOT, alone, run
from huggingface_hub import ModelCard

import models
from data import tasks
from data.model_tokenizer import load_tokenizer
from data.tokenising import tokenise_examples
from models import exporting, measuring, moe_bert
from utils import cost, evaluation
from utils.errors import CheckpointError, RunError
from utils.files import read_json

pytest.importorskip("onnxruntime")
KINDS = ("dense", "compact", "onnx")


# ---- Real text, a real encoder


@pytest.fixture(scope="module")
def student(encoder_dir):
    """make(task): one of a real encoder's layers with a tenth of its units, chosen by chance, and a new
    head."""

    def make(task):
        names = {"label_names": task.label_names, "new_head": True}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = models.keep_layers(models.load_model(encoder_dir, kind=task.kind, **names), 1)
            models.sort_units(model, torch.rand(1, 12) ** 3, torch.rand(1, 1536) ** 3, grid=[0, 90])
        return models.crop(model, 90)

    return make


@pytest.mark.parametrize("name, rows", [("mrpc", None), ("conll", 300)])
def test_all_kinds_answer_dev_alike(name, rows, student, data_dir, encoder_dir, tmp_path):
    """The same predictions for every row as the model in memory; logits within 1e-4, equal ones of the
    compact model."""
    task, tokenizer = tasks.get(name), load_tokenizer(encoder_dir)
    split = tokenise_examples(task.read(data_dir, "dev").sample(rows), tokenizer, task=task)
    model = student(task)
    assert models.kept(model) == {"heads": [1], "neurons": [154]}
    options = {"tokenizer": tokenizer, "task_kind": task.kind, "batch_size": 32}
    found = {kind: exporting.export(model, kind, tmp_path / kind, split, **options) for kind in KINDS}
    assert found["compact"]["largest_difference"] == 0 and all(
        each["largest_difference"] < 1e-4 for each in found.values()
    )
    others = {
        kind: models.load_model(tmp_path / kind, kind=task.kind).eval() for kind in ("dense", "compact")
    }
    others["onnx"] = exporting.OnnxModel(tmp_path / "onnx" / exporting.GRAPH)
    expected = split.predictions(evaluation.logits(model, split, batch_size=32, device=model.device))
    for kind, other in others.items():
        assert (
            split.predictions(evaluation.logits(other, split, batch_size=32, device=model.device)) == expected
        ), kind
    assert type(others["dense"]).__name__.startswith("Bert") and type(others["compact"]).__name__.startswith(
        "SparseBert"
    )
    types = [read_json(tmp_path / kind / "config.json")["model_type"] for kind in KINDS]
    assert types == ["bert", "sparse-bert", "bert"]


# ---- The script


@pytest.fixture(scope="module")
def exported(nested_demo, small_demo, tmp_path_factory):
    """(folder of the exports, results.json) of a nested checkpoint at 90%."""
    folder = tmp_path_factory.mktemp("exported")
    run(
        "run_evaluation.py",
        *f"--task_name demo --data_dir {small_demo} --use_cpu --model_path {nested_demo}".split(),
        *"--sparsities 90 --export".split(),
        *KINDS,
        *f"--export_dir {folder / 'exports'} --output_dir {folder / 'run'} --num_repeats 1".split(),
    )
    return folder / "exports", read_json(folder / "run" / "results.json")


def test_graphs_get_rows_of_their_own(exported):
    folder, results = exported
    rows = results["rows"]
    assert [row["runtime"] for row in rows] == ["torch", "onnx", "onnx int8"]
    assert rows[1]["dev/acc"] == rows[0]["dev/acc"] and all(
        row["speed"]["32x128"]["median_ms"] > 0 for row in rows
    )
    sizes = [(folder / "onnx" / name).stat().st_size for name in (exporting.GRAPH, exporting.QUANTISED)]
    assert [row["disk_bytes"] for row in rows[1:]] == sizes and sizes[1] < 0.6 * sizes[0]
    assert {kind: found["examples"] for kind, found in results["exports"].items()} == dict.fromkeys(KINDS, 64)


def card(folder, kind):
    """(metadata, lines of Python) of a card, which is checked for what it must say."""
    text = (folder / kind / "README.md").read_text()
    said = (
        "nothing was trained",
        "| task | demo (labels: not_entailment, entailment)",
        "| data | dev.tsv (sha256 ",
        "| dev, `onnx/model.onnx` | acc 0." if kind == "onnx" else "| dev | acc 0.",
        "| model | `",
        "| parameters | ",
        "| embedding parameters | ",
        "| encoder parameters | ",
        "split dev",
        "--export dense compact onnx",
        "| versions | python 3",
    )
    assert [words for words in said if words not in text] == [] and "train.tsv" not in text
    commands = text.split("```bash\n")[1].split("```")[0].splitlines()
    assert [line.split()[1] for line in commands] == [
        "run_finetuning.py",
        "run_sparsification.py",
        "run_evaluation.py",
    ]
    return ModelCard(text).data, text.split("```python\n")[1].split("```")[0]


def test_metadata_of_cards(exported):
    folder, results = exported
    for kind in KINDS:
        data, _ = card(folder, kind)
        assert (data.library_name == "transformers.js") == (kind == "onnx")
        assert (
            data.pipeline_tag == "text-classification" and data.language == "en" and data.license == "other"
        )
        scored = results["rows"][1:] if kind == "onnx" else results["rows"][:1]
        assert [found.metric_value for found in data.eval_results] == [row["dev/acc"] for row in scored]
        for found in data.eval_results:
            assert (found.metric_type, found.dataset_type, found.dataset_split) == ("accuracy", "demo", "dev")


def test_a_card_has_the_scores_of_each_graph(exported):
    """float32 and int8 under the names of their files, where the two differ as they do in the table."""
    folder, results = exported
    text = (folder / "onnx" / "README.md").read_text()
    for row, file in zip(results["rows"][1:], (exporting.GRAPH, exporting.QUANTISED)):
        assert f"| dev, `{file}` | acc {row['dev/acc']:.4f} |" in text
    names = [found.metric_name for found in ModelCard(text).data.eval_results]
    assert names == [f"acc of {file}" for file in (exporting.GRAPH, exporting.QUANTISED)]


def test_graphs_are_timed_on_the_cpu(monkeypatch):
    """Beside a GPU's name stands the CPU's, where there are graphs."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "some GPU")
    rows, gpu, cpu = [{"runtime": "torch"}, {"runtime": "onnx"}], torch.device("cuda"), torch.device("cpu")
    on_cpu = cost.hardware(cpu)
    assert measuring.hardware(gpu, rows[:1]) == f"some GPU, torch {torch.__version__}"
    assert measuring.hardware(gpu, rows) == f"some GPU, torch {torch.__version__}; graphs: {on_cpu}"
    assert measuring.hardware(cpu, rows) == on_cpu


def test_cards_run_as_they_stand(exported, nested_demo, tmp_path):
    """Each in its own folder, one process without this repository; all give the same label and probability, the
    compact model has the weights that it has here, bit by bit."""
    hashed = (
        "import hashlib\n"
        "def digest(model):\n"
        "    pieces = sorted((name, tensor.detach().numpy().tobytes()) for name, tensor in "
        "model.state_dict().items())\n"
        "    return hashlib.sha256(b''.join(name.encode() + data for name, data in pieces)).hexdigest()\n"
    )
    here = {}
    exec(hashed, here)
    code = "import contextlib, io, os\nsaid = []\n"
    for kind in KINDS:
        code += (
            f"os.chdir({str(exported[0] / kind)!r})\n"
            f"with contextlib.redirect_stdout(io.StringIO()) as out:\n    exec({card(exported[0], kind)[1]!r})\n"
            "said.append(out.getvalue().split())\n"
        )
        code += f"{hashed}\nfound = digest(classify.model)\n" if kind == "compact" else ""
    code += "print([label for label, _ in said], [float(p) for _, p in said], repr(found), sep='|')"
    labels, odds, found = map(ast.literal_eval, alone(code, tmp_path, cache=tmp_path / "cache").split("|"))
    assert len({*labels}) == 1 and labels[0] in ("entailment", "not_entailment")
    assert len(odds) == 3 and max(odds) - min(odds) < 1e-5
    cropped = models.crop(models.load_model(nested_demo, kind="classification"), 90)
    assert found == here["digest"](cropped)
    assert read_json(exported[0] / "dense" / "config.json").get("compression") is None


def test_an_export_over_a_folder_is_refused(exported, nested_demo, small_demo, tmp_path):
    folder, _ = exported
    done = run(
        "run_evaluation.py",
        *f"--task_name demo --data_dir {small_demo} --model_path {nested_demo}".split(),
        *f"--export dense --export_dir {folder} --output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    assert f"--export_dir: {folder / 'dense'} exists" in done.stderr and not (tmp_path / "run").exists()


def test_missing_onnxruntime_names_the_extra(nested_demo, small_demo, tmp_path):
    words = [
        "run_evaluation.py",
        "--task_name",
        "demo",
        "--data_dir",
        small_demo,
        "--model_path",
        nested_demo,
        "--export",
        "onnx",
    ]
    code = (
        "import sys, runpy; sys.modules['onnxruntime'] = None; sys.argv = "
        f"{[str(word) for word in words]!r}\n"
        "runpy.run_path('run_evaluation.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "onnxruntime not installed (pip install -r requirements-onnx.txt)" in done.stderr
    )
    assert "Traceback" not in done.stderr


# ---- Families and faults


class Batches:
    """A split of the tiny models' batch."""

    def __init__(self, *indices):
        self.indices = np.array(indices)

    def in_order(self, batch_size):
        return [self.indices[start : start + batch_size] for start in range(0, len(self.indices), batch_size)]

    def collate(self, rows):
        from utils.batch import Batch

        return Batch({name: tensor[rows] for name, tensor in tiny_models.inputs().items()}, None, rows)


class Tokenizer:
    def save_pretrained(self, folder):
        pass


def with_experts(attention, ffn):
    model = models.keep_layers(tiny_models.build(dtype=torch.float32), 1)
    sizes = {"attention": attention, "ffn": ffn, "shared_fraction": 0, "noise": "none", "seed": 0}
    return moe_bert.with_experts(model, **sizes).eval()


OPTIONS = {"tokenizer": Tokenizer(), "task_kind": "classification", "batch_size": 1}


@pytest.mark.parametrize("case", ["deberta-v2", (1, 3), (2, 1)])
def test_other_structures_become_graphs(case, tmp_path):
    """Other batches and lengths than those that the graph was made with: relative positions; experts of each
    token, with experts that get none."""
    if case == "deberta-v2":
        nested = tiny_models.nest(tiny_models.build(case, dtype=torch.float32))
        model = models.keep_layers(models.crop(nested, 60), 1)
    else:
        model = with_experts(*case)
    found = exporting.export(model, "onnx", tmp_path / "onnx", Batches(0, 1, 2), **OPTIONS)
    longest = 40 if case != "deberta-v2" else 512  # positions; DeBERTa's are relative
    assert found["shapes"]["batches"] == [1, 3, 32] and found["shapes"]["lengths"] == [1, 17, longest]
    assert found["shapes"]["largest_difference"] < 1e-5 and found["largest_difference"] < 1e-5
    assert found["disabled_optimizers"] == ["SkipLayerNormFusion"]
    config = read_json(tmp_path / "onnx" / "config.json")
    assert config["model_type"] in ("bert", "deberta-v2") and "compression" not in config
    assert config["architectures"][0] in (
        "BertForSequenceClassification",
        "DebertaV2ForSequenceClassification",
    )


def test_a_graph_that_fails_is_not_kept(tmp_path, monkeypatch):
    """Experts as they are trained have buffers whose size is that of the traced batch."""
    monkeypatch.setattr(exporting, "with_plain_experts", lambda model: model)
    with pytest.raises(RunError, match=r"nothing was kept|cannot run this graph for a batch of \[1, "):
        exporting.export(with_experts(1, 3), "onnx", tmp_path / "onnx", Batches(0, 1, 2), **OPTIONS)
    assert not [*tmp_path.iterdir()]


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch):
    """Wrong weights on the way to the disk are seen, and nothing stays behind."""
    model = models.crop(tiny_models.nest(tiny_models.build(dtype=torch.float32)), 60)

    def spoil(model, folder, **_):
        spoilt = models.crop(model, 60)
        with torch.no_grad():
            next(iter(spoilt.parameters())).mul_(2)
        models.save_model(spoilt, folder)

    monkeypatch.setattr(exporting, "save_model", spoil)
    with pytest.raises(RunError, match="differ from the model's"):
        exporting.export(model, "compact", tmp_path / "compact", Batches(0, 1, 2), **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_experts_have_no_dense_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # as a user's Python has it
    model = with_experts(1, 2)
    with pytest.raises(CheckpointError, match="has experts"):
        exporting.export(model, "dense", tmp_path / "dense", Batches(0, 1, 2), **OPTIONS)
    found = exporting.export(model, "compact", tmp_path / "compact", Batches(0, 1, 2), **OPTIONS)
    assert found["largest_difference"] == 0 and found["code"] == "modeling_moe_bert.py"
    assert [path.name for path in tmp_path.iterdir()] == ["compact"]
    left = {path.name for path in (tmp_path / "compact").iterdir()}
    assert left == {"config.json", "model.safetensors", "modeling_moe_bert.py"}
