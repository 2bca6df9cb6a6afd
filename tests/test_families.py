"""The table of families: what a row says is true of the installed transformers, and one row is all that any
method needs."""

import subprocess
import sys

import pytest
import tiny_models
import torch
import transformers
from commands import ROOT, run
from corpus_runs import SHORT, SIZES

import models
from models import architectures
from utils import families
from utils.errors import CheckpointError, FlagError
from utils.files import read_json


@pytest.fixture(params=families.FAMILIES)
def name(request):
    return request.param


def test_names_of_settings(name):
    """Sizes and dropouts are settings of the family's config; DeBERTa's head reads one that is not listed."""
    family, config = families.of(name), transformers.AutoConfig.for_model(name).to_dict()
    settings = {
        *family.sizes,
        *family.as_hidden,
        *family.hidn_dropout,
        *family.att_dropout,
        *family.cls_dropout,
    }
    settings |= {family.head_size, family.key_heads} - {""}
    assert settings - config.keys() <= {"cls_dropout"}
    assert families.sizes(config) is not None and len(families.sizes(config)) == 4


def test_dropouts_arrive(name):
    """Each probability is that of some module of a model with a task head; a family without one says so."""
    given = {"hidn_dropout": 0.31, "att_dropout": 0.32, "cls_dropout": 0.33}
    family, model = families.of(name), tiny_models.build(name, dtype=torch.float32)
    for flag, value in given.items():
        if not getattr(family, flag):
            with pytest.raises(FlagError, match=f"--{flag}: (enc-)?{name} has no such dropout"):
                models.with_dropout(model, **{flag: value})
            continue
        made = models.with_dropout(model, **{flag: value})
        assert value in [
            setting
            for module in made.modules()
            for setting in vars(module).values()
            if type(setting) is float
        ]


def test_heads(name):
    """A kind of task without a head is one that transformers has no class for; T5's own read a whole
    decoder, and stand in models/enct5.py."""
    family = families.of(name)
    for kind in families.HEADS:
        assert hasattr(transformers, family.class_name(kind)) == (kind in family.tasks)
        made = architectures.stock_class(name, kind) if kind in family.tasks else None
        assert made is None or hasattr(transformers, made.__name__) != family.own_class(kind)
    assert bool(family.vocabulary) == hasattr(transformers, family.class_name("masked"))


def test_spellings(name):
    assert families.named(name) == families.named(name.replace("-", "").replace("_", "")) == name
    assert families.named("enct5") == "t5"
    assert families.named("bart") is None


def test_no_torch():
    """Flags are checked before it is imported."""
    code = "import sys; from utils import families; assert not {'torch', 'transformers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_refusals():
    assert set(families.REFUSED).isdisjoint(families.FAMILIES)
    with pytest.raises(
        CheckpointError, match="'albert' is not supported: all its layers are one and the same"
    ):
        families.of("albert")
    for family in families.FAMILIES.values():
        assert family.refuses.keys() <= families.USES.keys()
    assert families.refusal("moe-bert", "ffn experts") is None
    assert "deberta-v2: its attention cannot be experts, as" in families.refusal(
        "sparse-deberta-v2", "attention experts"
    )


def test_heads_that_share_a_key():
    """Six query heads on two keys: three are one, and students keep that; widths of what MiniLMv2
    compares."""
    config = {
        "model_type": "eurobert",
        "num_hidden_layers": 2,
        "hidden_size": 48,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "head_dim": 8,
    }
    assert families.heads_per_key(config) == 3 and families.projection_widths(config, 1) == {
        "q": 48,
        "k": 16,
        "v": 16,
    }
    kept = {**config, "compression": {"heads": [2, 1]}}
    assert families.projection_widths(kept, 2) == {"q": 24, "k": 8, "v": 8}
    wanted = {"layers": 1, "hidden": 24, "heads": 3, "intermediate": 48}
    changes = families.resized_settings(config, wanted)
    assert changes["num_key_value_heads"] == 1 and changes["head_dim"] == 8
    with pytest.raises(
        CheckpointError, match="4 heads: expected a multiple of 3, as so many share a key and a value"
    ):
        families.resized_settings(config, {**wanted, "heads": 4})
    assert families.heads_per_key({**config, "num_key_value_heads": None}) == 1


# ---- The scripts, on families that differ most from BERT


def save(folder, case, tokenizer, **settings):
    """A random model of a family, 48 wide, with 3 layers and 4 heads, and some contrast in its relations."""
    sizes = tiny_models.sized(case, hidden=48, intermediate=96)
    settings = {**tiny_models.CASES[case][1], **sizes, "vocab_size": len(tokenizer), **settings}
    config = transformers.AutoConfig.for_model(tiny_models.CASES[case][0], **settings)
    torch.manual_seed(0)
    architectures.stock_class(config.model_type)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_minimoe_from_a_megatron_bert(demo_corpus, demo_tokenizer, small_demo, tmp_path):
    """MiniMoE's own teacher."""
    teacher = save(tmp_path / "teacher", "megatron-bert", demo_tokenizer, initializer_range=0.2)
    run(
        "run_minimoe.py",
        *f"--corpus {demo_corpus} --teacher_model_path {teacher}".split(),
        *SHORT,
        *SIZES,
        *f"--num_relation_heads 6 --output_dir {tmp_path / 'student'}".split(),
    )
    results = read_json(tmp_path / "student" / "results.json")
    assert results["metrics"]["heldout"]["loss"] < 0.9 * results["hops"][0]["heldout_before"]["loss"]
    assert read_json(tmp_path / "student" / "ckpt" / "config.json")["model_type"] == "moe-megatron-bert"
    run(
        "run_finetuning.py",
        *f"--task_name demo --data_dir {small_demo} --model_path {tmp_path / 'student'}".split(),
        *f"--use_cpu --max_steps 2 --max_length 24 --output_dir {tmp_path / 'tuned'}".split(),
    )
    assert read_json(tmp_path / "tuned" / "results.json")["model"]["experts"] == "1,4"


def test_from_a_corpus_to_a_crop_with_grouped_keys(demo_corpus, demo_tokenizer, small_demo, tmp_path):
    """EuroBERT: MiniLMv2, fine-tuned, sparsified, distilled into its crop."""
    teacher = save(
        tmp_path / "teacher", "eurobert grouped", demo_tokenizer, head_dim=6, initializer_range=0.2
    )
    relations = ("--corpus", demo_corpus, "--teacher_model_path", teacher, *SHORT, *SIZES)
    done = run(
        "run_minilmv2.py", *relations, "--relations", "qk=1", "--output_dir", tmp_path / "small", code=2
    )
    assert "--relations qk: the teacher's queries are 48 wide, its keys and values 24" in done.stderr
    run("run_minilmv2.py", *relations, "--num_relation_heads", 6, "--output_dir", tmp_path / "small")
    results = read_json(tmp_path / "small" / "results.json")
    assert results["metrics"]["heldout"]["loss"] < 0.9 * results["hops"][0]["heldout_before"]["loss"]
    task = ("--task_name", "demo", "--data_dir", small_demo, "--use_cpu", "--max_length", 24)
    run(
        "run_finetuning.py",
        *task,
        "--max_steps",
        2,
        "--model_path",
        tmp_path / "small",
        "--output_dir",
        tmp_path / "tuned",
    )
    run(
        "run_sparsification.py",
        *task,
        "--model_path",
        tmp_path / "tuned",
        "--grid",
        "0,50",
        "--output_dir",
        tmp_path / "nested",
    )
    run(
        "run_distillation.py",
        *task,
        *f"--max_steps 2 --teacher_model_path {tmp_path / 'nested'}".split(),
        *f"--layer_or_sparsity 50S --output_dir {tmp_path / 'crop'}".split(),
    )
    config = read_json(tmp_path / "crop" / "ckpt" / "config.json")
    assert config["model_type"] == "sparse-eurobert" and config["num_key_value_heads"] == 2
    assert sum(config["compression"]["heads"]) == 2 and config["compression"]["original_heads"] == 2
