"""--attn_implementation: what each family has, the same function whichever is chosen, in every model that is
made of the one loaded."""

import json

import pytest
import tiny_models
import torch
from commands import run

import models
from models import architectures, moe_bert
from models.relation_encoder import RelationEncoder
from models.resized import given_student, resized
from utils import families
from utils.errors import CheckpointError
from utils.files import read_json
from utils.student_sizes import Hop

NAMES = ("LABEL_0", "LABEL_1", "LABEL_2")
OTHERS = [name for name, family in families.FAMILIES.items() if "sdpa" in family.attentions]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_what_a_family_has(name):
    """As transformers says of its class."""
    family, stock = families.of(name), architectures.stock_class(name)
    assert ("sdpa" in family.attentions) == stock._supports_sdpa
    assert ("flash_attention_2" in family.attentions) == bool(stock._supports_flash_attn)


def chosen(folder, kind, implementation):
    """A checkpoint, loaded with one implementation."""
    names = {"label_names": NAMES, "unnamed_labels": NAMES}
    model = models.load_model(folder, kind=kind, attn_implementation=implementation, **names)
    assert model.config._attn_implementation == implementation or (
        implementation is None and model.config._attn_implementation == "sdpa"
    )
    return model


@pytest.mark.parametrize("name", OTHERS)
def test_same_function(name, tmp_path):
    """Logits as stored, sliced and cropped, scores of units, queries, keys and values: within rounding; not
    the same bits, so that the choice has arrived."""
    made = tiny_models.nest(tiny_models.build(name, dtype=torch.float32))
    models.save_model(made, tmp_path)
    assert not {key for key in read_json(tmp_path / "config.json") if "attn_impl" in key}
    kind, found = families.of(name).tasks[0], {}
    for implementation in ("eager", "sdpa", None):
        model = chosen(tmp_path, kind, implementation)
        crop = models.crop(model, 60)
        assert crop.config._attn_implementation == model.config._attn_implementation
        values = [tiny_models.output(model), tiny_models.output(crop)]
        with tiny_models.sliced(model, 60):
            values.append(tiny_models.output(model))
        with models.scoring_masks(model) as masks:
            values += masks.gradients(tiny_models.output(model).square().sum())
        encoder = RelationEncoder(chosen(tmp_path, None, implementation), layer=3)
        batch = tiny_models.inputs()  # padding that sees no token at all is nobody's business
        values += [answer[batch["attention_mask"].bool()] for answer in encoder(**batch).values()]
        found[implementation] = [value.detach() for value in values]
    assert all(map(torch.equal, found[None], found["sdpa"]))
    for eager, sdpa in zip(found["eager"], found["sdpa"]):
        assert (eager - sdpa).abs().max() < 1e-5 * max(1.0, float(eager.abs().max()))
    assert not all(map(torch.equal, found["eager"], found["sdpa"]))


def test_what_is_made_of_it(tmp_path):
    """Students of any kind have what was chosen, also those that are a config alone."""
    models.save_model(tiny_models.build(kind=None, dtype=torch.float32), tmp_path / "encoder")
    teacher = chosen(tmp_path / "encoder", None, "eager")
    hop = Hop(layers=2, hidden=8, heads=2, intermediate=6, teacher_layer=3, relation_heads=2)
    experts = {"attention": 1, "ffn": 2, "noise": "none", "seed": 0}
    made = {
        "layers": models.shrink(teacher, "2L"),
        "resized": resized(teacher, hop, init="random", seed=0),
        "experts": moe_bert.with_equal_experts(teacher, **experts),
        "dropout": models.with_dropout(teacher, hidn_dropout=0.3),
    }
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.json").write_text(json.dumps(read_json(tmp_path / "encoder/config.json")))
    for folder in ("encoder", "config"):
        made[folder] = given_student(tmp_path / folder, range(10), seed=0, attn_implementation="eager")
    assert {name: model.config._attn_implementation for name, model in made.items()} == dict.fromkeys(
        made, "eager"
    )


@pytest.mark.parametrize("name", ["mpnet", "deberta-v2", "megatron-bert"])
def test_a_family_without(name, tmp_path):
    """By name, also of a checkpoint whose config was not known when the flags were checked."""
    models.save_model(tiny_models.build(name, kind=None, dtype=torch.float32), tmp_path)
    with pytest.raises(CheckpointError, match="scaled_dot_product_attention"):
        chosen(tmp_path, None, "sdpa")
    said = f"--attn_implementation sdpa: --model_path ({name}) has eager; choose"
    words = f"--task_name demo --model_path {tmp_path} --attn_implementation sdpa".split()
    assert said in run("run_finetuning.py", *words, code=2).stderr


def test_flash_attention():
    flag = "--attn_implementation flash_attention_2"
    done = run("run_finetuning.py", *f"--task_name demo --use_cpu {flag}".split(), code=2)
    assert f"{flag}: not installed (pip install flash-attn)" in done.stderr
    assert f"{flag}: needs a GPU and --precision bf16 or fp16" in done.stderr
    words = f"--task_name demo --model_path x --precision bf16 {flag}".split()
    assert f"{flag}: a part of sparsification" in run("run_sparsification.py", *words, code=2).stderr


def test_a_setting(small_demo, nested_demo, tmp_path):
    words = f"--task_name demo --data_dir {small_demo} --use_cpu --max_steps 1 --max_eval_samples 16".split()
    words += ["--teacher_model_path", nested_demo, "--output_dir", tmp_path / "run"]
    run("run_distillation.py", *words, "--attn_implementation", "eager")
    assert read_json(tmp_path / "run/args.json")["settings"]["attn_implementation"] == "eager"
    refused = run("run_distillation.py", *words, "--attn_implementation", "sdpa", code=2)
    assert "--attn_implementation: eager in the run, sdpa now" in refused.stderr
