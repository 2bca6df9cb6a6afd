"""--teacher_dtype bf16: half the memory, the answers of a teacher cast by hand, students that start from the
weights as they are stored."""

import pytest
import tiny_models
import torch
from commands import run
from corpus_runs import SHORT
from run_folders import weights
from torch.func import functional_call

import models
from models import moe_bert
from models.relation_encoder import RelationEncoder
from utils import cost
from utils.batch import Batch
from utils.files import read_json
from utils.frozen_outputs import FrozenOutputs

PRECISIONS = ("fp32", "bf16")


def size(model):
    return cost.model_size(model, models.layer_modules(model))["bytes"]


def by_hand(model):
    """A function of a batch: what a model says with its weights cast, one by one."""
    cast = {name: parameter.detach().bfloat16() for name, parameter in model.named_parameters()}
    return lambda **inputs: functional_call(model, cast, kwargs=inputs)


@pytest.mark.parametrize("case", [*tiny_models.CASES, "experts"])
def test_half_the_memory_and_the_same_answers_as_cast_by_hand(case):
    model, twin = [
        tiny_models.build("bert" if case == "experts" else case, dtype=torch.float32) for _ in "12"
    ]
    if case == "experts":
        experts = {"attention": 2, "ffn": 3, "noise": "none", "seed": 0}
        model, twin = (moe_bert.with_equal_experts(each, **experts) for each in (model, twin))
    batch = Batch(tiny_models.inputs(), None, None)
    before, whole = size(model), FrozenOutputs(twin, layers=[0, 3], precision="fp32")(batch)
    frozen = models.frozen_in(model, "bf16")
    assert frozen is model and size(model) == before // 2
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    for precision in PRECISIONS:
        logits, states = FrozenOutputs(model, layers=[0, 3], precision=precision)(batch)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            expected = by_hand(twin)(**batch.inputs, output_hidden_states=True)
        assert logits.dtype == torch.float32 and torch.equal(logits, expected.logits.float())
        assert all(map(torch.equal, states, [expected.hidden_states[layer].float() for layer in (0, 3)]))
        assert (logits - whole[0])[batch.mask if logits.dim() == 3 else ...].norm() < 0.1 * whole[0].norm()


def test_left_as_it_is():
    for dtype in ("fp32", None):
        model = tiny_models.build(dtype=torch.float32)
        assert models.frozen_in(model, dtype) is model and model.dtype == torch.float32
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("options", [{}, {"nonlinear": True}, {"pooled": True}], ids=str)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_filters_of_the_teacher(options, precision, tmp_path):
    model, answers = tiny_models.build("deberta-v2", dtype=torch.float32), {}
    models.save_model(model, tmp_path)
    models.save_filters(*models.new_filters(model, task="demo", **options), tmp_path)
    batch = Batch(tiny_models.inputs(), None, None)
    for dtype in PRECISIONS:
        filters, _ = models.load_filters(tmp_path, models.frozen_in(model, dtype), task="demo")
        seen = models.FilteredModel(model, filters, pooled="pooled" in options)
        answers[dtype] = FrozenOutputs(seen, layers=[0, 1, 2], precision=precision)(batch)[1]
    for full, half in zip(answers["fp32"], answers["bf16"]):
        assert half.dtype == torch.float32 and 0 < (half - full).norm() < 0.05 * full.norm()


def test_relations_of_the_teacher():
    answers = []
    for dtype in PRECISIONS:
        teacher = models.frozen_in(tiny_models.build("modernbert", kind=None, dtype=torch.float32), dtype)
        answers.append(RelationEncoder(teacher, layer=3)(**tiny_models.inputs()))
    real = tiny_models.inputs()["attention_mask"].bool()
    for full, half in zip(*(answer.values() for answer in answers)):
        assert half.dtype == torch.bfloat16 and 0 < (half - full)[real].norm() < 0.05 * full[real].norm()


# ---- Scripts: with a rate of nearly 0 the student that is saved is the one that began, but for zeros

DEMO = "--task_name demo --data_dir {data} --max_eval_samples 16 --max_train_samples 32 --use_cpu"
CORPUS = "--teacher_model_path {encoder} --corpus {corpus}"
DEMO += " --teacher_model_path {nested}"
CASES = {
    "layers": ("run_distillation.py", f"{DEMO} --layer_or_sparsity 2L"),
    "crop": ("run_distillation.py", f"{DEMO} --layer_or_sparsity 50S"),
    "cached": ("run_distillation.py", f"{DEMO} --layer_or_sparsity 50S --cache_teacher"),
    "maxidisc": ("run_maxidisc.py", f"{DEMO} --layer_or_sparsity_path 50,90S"),
    "minidisc": ("run_minidisc.py", f"{DEMO} --target_sparsity 90"),
    "stark": (
        "run_stark.py",
        f"{DEMO} --do_rewind --student_init_path {{nested}} --student_sparsity 90 --teacher_sparsities 50",
    ),
    "ted": ("run_ted.py", f"{DEMO} --mode lwd --student_layer 2 --mse_alpha 1 --teacher_filter_interval 2"),
    "minilmv2": ("run_minilmv2.py", f"{CORPUS} --layer 3 --hidden 24 --heads 4 --student_init slice"),
    "minimoe": (
        "run_minimoe.py",
        f"{CORPUS} --layer 3 --hidden 48 --heads 4 --student_intermediate 96 --student_init layers "
        "--expert_init equal --num_relation_heads 4",
    ),
}
STILL = (*"--learning_rate 1e-37 --weight_decay 0 --per_device_train_batch_size 16".split(),)


@pytest.mark.parametrize("name", CASES)
def test_students_start_from_what_is_stored(
    name, small_demo, nested_demo, demo_corpus, small_teacher, tmp_path
):
    script, words = CASES[name]
    places = {"data": small_demo, "nested": nested_demo, "corpus": demo_corpus, "encoder": small_teacher}
    on_corpus = words.startswith(CORPUS)
    words = words.format(**places).split()
    words += SHORT if on_corpus else ["--num_train_epochs", 1]
    run(script, *words, *STILL, "--teacher_dtype", "bf16", "--output_dir", tmp_path / "run")
    results = read_json(tmp_path / "run/results.json")
    assert results["teacher_dtype"] == "bf16"
    teacher = weights(small_teacher if on_corpus else nested_demo / "ckpt")
    begun = weights(tmp_path / "run/ckpt")
    word = next(name for name in begun if name.endswith("word_embeddings.weight"))
    for name, tensor in begun.items():
        assert tensor.dtype == torch.float32
        if name in teacher and tensor.dim() == teacher[name].dim():
            part = teacher[name][tuple(slice(size) for size in tensor.shape)]
            if part.shape == tensor.shape:
                assert (tensor - part).abs().max() < 1e-30, name
    assert not torch.equal(begun[word], begun[word].bfloat16().float())


@pytest.mark.parametrize(
    "script, words, said",
    [
        (
            "run_ted.py",
            "--mode filters --model_path {0}",
            "--teacher_dtype: has no meaning with --mode filters",
        ),
        (
            "run_stark.py",
            "--teacher_model_path {0} --student_model_path {0}",
            "--teacher_dtype: has a meaning only with --do_rewind",
        ),
    ],
)
def test_refused(script, words, said, nested_demo):
    words = f"--task_name demo --teacher_dtype bf16 {words}".format(nested_demo).split()
    assert said in run(script, *words, code=2).stderr
