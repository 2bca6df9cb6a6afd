"""Small models with their code beside them, in a process that has torch and transformers and not this
repository."""

import json

import pytest
import tiny_models
import torch
from commands import alone
from safetensors.torch import save_file

import models
from models import architectures, moe_bert, standalone
from utils.files import read_json

# Loads each folder by transformers alone, saves it, loads that; prints what went wrong, or how many are right
READER = """
import json, sys
from pathlib import Path

sys.path.insert(0, ".")  # where the user has packages called as ours are
import torch, transformers
from safetensors.torch import load_file

def logits(folder):
    auto = getattr(transformers, f"AutoModelFor{head}")
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        found = model(**{name: given[name] for name in ("input_ids", "attention_mask")}).logits
    return model, found if found.dim() == 2 else found[given["attention_mask"].bool()]

def refused(load):
    try:
        load()
    except (ValueError, RuntimeError) as error:
        return str(error)

right = 0
for folder in sorted(Path(sys.argv[1]).iterdir()):
    given, config = load_file(folder / "given"), json.loads((folder / "config.json").read_text())
    stock, _, head = config["architectures"][0].removeprefix("Sparse").removeprefix("Moe").partition("For")
    model, found = logits(folder)
    assert torch.equal(found, given["logits"]), (folder.name, (found - given["logits"]).abs().max())
    assert model.num_parameters() == given["parameters"], folder.name
    again = Path("again", folder.name)
    model.save_pretrained(again)
    assert json.loads((again / "config.json").read_text())["auto_map"] == config["auto_map"]
    if right % 8 == 0:  # what differs between families has been seen
        assert torch.equal(logits(again)[1], given["logits"]), folder.name
        auto = getattr(transformers, f"AutoModelFor{head}")
        assert "trust_remote_code=True" in refused(lambda: auto.from_pretrained(folder)), folder.name
        if not stock.startswith("Enc"):  # EncT5 is no class of transformers'
            stock_class = getattr(transformers, f"{stock}For{head}")
            assert "ignore_mismatched_sizes" in refused(lambda: stock_class.from_pretrained(folder)), folder
    right += 1
assert not {"models", "modules", "data", "utils"} & {*sys.modules}
print()  # transformers has asked, in this line, whether it may run code
print(right)
"""


def cropped(case):
    """Layers without heads, or without neurons, among the others."""
    return models.crop(tiny_models.nest(tiny_models.build(case, dtype=torch.float32)), 60)


def narrowed(case):
    """A third of the hidden dimensions gone, too; nothing empty."""
    model = tiny_models.build(case, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    scores = [
        torch.rand(*shape, generator=generator)
        for shape in ((3, tiny_models.HEADS), (3, tiny_models.NEURONS), (1, tiny_models.HIDDEN))
    ]
    models.sort_units(model, *scores, grid=[50])
    return models.crop(model, 50)


def with_experts(case, attention=1, ffn=3, **options):
    dense = tiny_models.build(case, dtype=torch.float32)
    sizes = {"attention": attention, "ffn": ffn, "shared_fraction": 0, "noise": "additive", "seed": 0}
    return moe_bert.with_experts(dense, **sizes, **options).eval()


MADE = [(cropped, case) for case in tiny_models.CASES]
MADE += [(narrowed, case) for case in tiny_models.CASES if "t5" not in case]
MADE += [(with_experts, case) for case in tiny_models.CASES]


def write(model, folder):
    """A compact export of a model, and what it answers, in a folder; returns its code file."""
    models.save_model(model, folder)
    code, batch = standalone.write(model, folder), tiny_models.inputs()
    with torch.no_grad():
        expected = tiny_models.output(model, batch)
    number = torch.tensor(sum(parameter.numel() for parameter in model.parameters()))
    save_file({**batch, "logits": expected.contiguous(), "parameters": number}, folder / "given")
    return code


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a model of each kind."""
    folder = tmp_path_factory.mktemp("written")
    made = {f"{make.__name__} {case}": make(case) for make, case in MADE}
    made["attention"] = with_experts("roberta", attention=2, ffn=1)
    made["both"] = with_experts("bert", attention=3, ffn=2, route_padding=True)
    made["equal"] = with_experts("mpnet", scale="one")
    for name, model in made.items():
        write(model, folder / name.replace(" ", "_"))
    return folder


def test_all_structures_load_without_this_repository(written, tmp_path):
    """Bit-equal logits and the small size, in a folder with packages called as ours are; the same saved and
    loaded again."""
    for name in ("models", "modules", "data", "utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    found = alone(READER, tmp_path, written, cache=tmp_path / "cache")
    assert int(found) == len(MADE) + 3


def test_code_is_short_and_needs_nothing_else(written):
    """What a plain family needs is 50 lines, and no code that its model does not run."""
    texts = {folder.name: next(folder.glob("*.py")).read_text() for folder in written.iterdir()}
    for name, text in texts.items():
        assert max(map(len, text.splitlines())) <= 110 and "SPDX-License-Identifier: Apache-2.0" in text, name
        assert {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))} <= {
            "re",
            "torch",
            "torch.nn.functional",
            "transformers",
        }
        names = [
            line.split()[1].partition("(")[0].rstrip(":")
            for line in text.splitlines()
            if line.startswith(("def ", "class "))
        ]
        classes = [each for each in names if "Config" in each or "For" in each]
        assert all(text.count(each) > 1 for each in names if each not in classes), name
    plain = models.crop(tiny_models.nest(tiny_models.build(dtype=torch.float32)), 10)
    assert len(standalone.text(plain).splitlines()) < 60
    assert len(texts["with_experts_bert"].splitlines()) < 140


def test_our_loader_goes_by_the_structure(tmp_path):
    """It neither reads the code nor writes its name into what it saves."""
    code = write(cropped("bert"), tmp_path / "export")
    assert code.name == "modeling_sparse_bert.py"
    assert read_json(tmp_path / "export" / "config.json")["auto_map"] == {
        "AutoConfig": "modeling_sparse_bert.SparseBertConfig",
        "AutoModelForSequenceClassification": "modeling_sparse_bert.SparseBertForSequenceClassification",
    }
    code.write_text("raise SystemExit('run')\n")
    model = models.load_model(tmp_path / "export", kind="classification")
    models.save_model(model, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()).get("auto_map") is None
    assert not [*(tmp_path / "again").glob("*.py")]
    loaded = models.load_model(tmp_path / "again", kind="classification")
    assert torch.equal(tiny_models.output(model), tiny_models.output(loaded))


def test_a_stock_model_needs_no_code(tmp_path):
    model = models.keep_layers(tiny_models.build(dtype=torch.float32), 1)
    models.save_model(model, tmp_path)
    assert standalone.write(model, tmp_path) is None and not [*tmp_path.glob("*.py")]


@pytest.mark.parametrize("attention, ffn", [(2, 1), (1, 3), (3, 2)])
def test_plain_experts_answer_alike(attention, ffn):
    """Bit by bit, also where an expert has no token, and for another batch and length; the model stays as it
    was."""
    model = with_experts("bert", attention=attention, ffn=ffn)
    before = tiny_models.output(model)
    plain = moe_bert.with_plain_experts(model)
    for batch in (tiny_models.inputs(), {name: each[:1, :2] for name, each in tiny_models.inputs(1).items()}):
        with torch.no_grad():
            assert torch.equal(tiny_models.output(plain, batch), tiny_models.output(model, batch))
    assert torch.equal(tiny_models.output(model), before)
    dense = tiny_models.build()
    assert moe_bert.with_plain_experts(dense) is dense
    assert architectures.encoder(plain) is not architectures.encoder(model)
