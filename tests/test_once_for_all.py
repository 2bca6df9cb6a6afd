"""Once-for-all students: parts of one student that are trained together, each a stock model by itself."""

import pytest
import tiny_models
import torch
import transformers
from commands import kill_when, run
from corpus_runs import SHORT
from run_folders import at_row, history, weights

import models
import run_minilmv2
from models import once_for_all
from models.relation_encoder import RelationEncoder
from utils import cost, flags
from utils.errors import FlagError
from utils.files import read_json, sha256
from utils.student_sizes import Part

PARTS = [Part(layers, width, width // 4, 2 * width) for layers in (1, 2, 3) for width in (8, 16)]


def whole_model(case="bert", **settings):
    """A tiny student: 16 wide, heads of 4, 32 neurons."""
    return tiny_models.build(
        case, kind=None, **{**tiny_models.sized(case, heads=4, intermediate=32), **settings}
    )


# ---- Golden values of the method


@pytest.mark.parametrize(
    "layers, hidden, parameters, macs",
    [(6, 768, 66_955_008, 5.436e9), (4, 512, 28_763_648, 1.611e9), (3, 192, 7_330_944, 0.170e9)],
)
def test_sizes_of_the_published_parts(layers, hidden, parameters, macs):
    args = run_minilmv2.parse(
        ["--corpus", "c", "--teacher_model_path", "bert-base-uncased", "--ofa_layer", "6,4,3"]
    )
    parts = flags.parts.parts(args)
    assert len(parts) == 15 and parts[-1] == Part(6, 768, 12, 3072) and args.relation_source == "extra"
    (part,) = [part for part in parts if (part.layers, part.hidden) == (layers, hidden)]
    with torch.device("meta"):
        whole = transformers.BertModel(transformers.BertConfig(num_hidden_layers=6))
    made = once_for_all.empty_part(whole, part)
    assert type(made) is transformers.BertModel and cost.parameters(made) == parameters
    assert cost.linear_macs(models.layer_modules(made)) == pytest.approx(macs, rel=1e-3)


# ---- A part is a model by itself


@pytest.mark.parametrize("case", tiny_models.CASES)
def test_a_part_answers_as_its_export_does(case):
    """And the gradients of all parts meet in the first rows and columns of the student's."""
    student = RelationEncoder(whole_model(case), layer=3, source="extra")
    module, batch = once_for_all.OnceForAll(student, PARTS), tiny_models.inputs()
    wanted = {name: torch.zeros_like(tensor) for name, tensor in student.named_parameters()}
    total = 0.0
    for part in PARTS:
        answer = module(part.name, **batch)
        factor = torch.linspace(-1, 1, part.hidden, dtype=torch.float64)
        total = total + sum((tensor * factor).sum() for tensor in answer.values())
        # the same by hand: a stock model of its own, and projections cut out
        exported = RelationEncoder(
            once_for_all.cut_out(student.model, part), layer=part.layers, source="extra"
        ).double()
        for kind, projection in exported.extra.items():
            whole = student.extra[kind]
            projection.weight.data, projection.bias.data = (
                whole.weight.data[: part.hidden, : part.hidden].clone(),
                whole.bias.data[: part.hidden].clone(),
            )
        assert not isinstance(exported.model, tuple) and type(exported.model) is type(student.model)
        expected = exported(**batch)
        assert expected["q"].shape[-1] == part.hidden
        for kind, tensor in answer.items():
            assert torch.allclose(tensor, expected[kind], rtol=0, atol=1e-10)
        named = {name: tensor for name, tensor in exported.named_parameters() if tensor.requires_grad}
        found = torch.autograd.grad(
            sum((tensor * factor).sum() for tensor in expected.values()), named.values()
        )
        for name, gradient in zip(named, found):
            add_first(wanted[name], gradient, groups=groups_of(name, case))
    trained = {name: tensor for name, tensor in student.named_parameters() if tensor.requires_grad}
    for (name, _), gradient in zip(trained.items(), torch.autograd.grad(total, trained.values())):
        assert torch.allclose(
            gradient, wanted[name], rtol=0, atol=1e-9 * max(1.0, float(gradient.abs().max()))
        ), name
        assert gradient.abs().max() > 0 or name.endswith(("key.bias", "k_lin.bias", "key_proj.bias"))


def groups_of(name, case):
    """Of rows: fused projections of ModernBERT hold three or two behind each other."""
    return {"Wqkv": 3, "Wi": 2}.get(name.split(".")[-2], 1) if case.startswith("modernbert") else 1


def add_first(total, gradient, *, groups):
    """total[:rows, :columns] += gradient, for each group of rows."""
    rows, own = len(gradient) // groups, len(total) // groups
    for group in range(groups):
        source, target = gradient[group * rows :][:rows], total[group * own :][:rows]
        target[tuple(slice(size) for size in source.shape)] += source


def test_parts_own_nothing():
    student = RelationEncoder(whole_model(), layer=3, source="extra")
    module = once_for_all.OnceForAll(student, PARTS)
    assert [name.removeprefix("student.") for name, _ in module.named_parameters()] == [
        n for n, _ in student.named_parameters()
    ]
    module.train()
    assert module("1L_8H", **tiny_models.inputs())["q"].requires_grad
    assert all(parameter.is_meta for part in module.parts.values() for parameter in part.parameters()), (
        "nothing is kept alive"
    )
    with torch.no_grad():
        before = module("1L_8H", **tiny_models.inputs())["q"]
        assert not torch.equal(module("1L_8H", **tiny_models.inputs())["q"], before), (
            "dropout acts in training"
        )
        module.eval()
        again = [module("1L_8H", **tiny_models.inputs())["q"] for _ in range(2)]
    assert torch.equal(*again)


# ---- The run


@pytest.fixture(scope="module")
def base(demo_corpus, small_teacher):
    return [
        *f"--corpus {demo_corpus} --teacher_model_path {small_teacher}".split(),
        *SHORT,
        *"--ofa_layer 2,1 --ofa_hidden 24,16,8 --student_heads 3 --num_relation_heads 4".split(),
        *"--student_init slice".split(),
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("ofa") / "run"
    run("run_minilmv2.py", *base, "--output_dir", folder)
    return folder


NAMES = [f"{layers}L_{width}H" for layers in (1, 2) for width in (8, 16, 24)]


def test_one_run_makes_many_students(finished, small_demo, tmp_path):
    results = read_json(finished / "results.json")
    assert [row["layers"] for row in results["students"]] == [1, 1, 1, 2, 2, 2]
    heldout = results["metrics"]["heldout"]
    assert heldout["loss"] == pytest.approx(sum(heldout[name] for name in NAMES) / 6)
    for name, row in zip(NAMES, results["students"]):
        assert row["heldout"] == heldout[name] < row["heldout_before"]
        model, report = transformers.AutoModel.from_pretrained(
            finished / f"student_{name}", output_loading_info=True
        )
        assert (
            type(model) is transformers.BertModel
            and not report["missing_keys"]
            and not report["unexpected_keys"]
        )
        assert cost.parameters(model) == row["parameters"]
        assert (model.config.num_attention_heads, model.config.intermediate_size) == (
            row["hidden"] // 8,
            4 * row["hidden"],
        )
        assert "fill-mask" in (finished / f"student_{name}" / "README.md").read_text()
    whole, part = weights(finished / "ckpt"), weights(finished / "student_1L_16H")
    assert all(
        torch.equal(tensor, whole[name][tuple(map(slice, tensor.shape))]) for name, tensor in part.items()
    )
    assert sha256(finished / "student_2L_24H" / "model.safetensors") == sha256(
        finished / "ckpt" / "model.safetensors"
    )
    logged = [row for row in history(finished) if "lr" in row]
    assert len(logged) == 12 and all(
        {"relation/qq", "relation/kk", "relation/vv"} <= row.keys() for row in logged
    )
    assert (finished / "heldout.png").read_bytes().startswith(b"\x89PNG")
    run(
        "run_finetuning.py",
        *f"--task_name demo --data_dir {small_demo}".split(),
        *f"--model_path {finished / 'student_1L_16H'} --use_cpu --max_steps 2".split(),
        *f"--max_length 24 --output_dir {tmp_path / 'tuned'}".split(),
    )
    assert read_json(tmp_path / "tuned" / "results.json")["num_steps"] == 2


def test_the_first_loss_is_the_mean_of_the_parts(base, tmp_path):
    """One update that moves nothing: what is logged before it is the mean over the parts of the held-out
    terms' kind."""
    flags = [
        *base,
        "--hidn_dropout",
        0,
        "--att_dropout",
        0,
        "--max_steps",
        1,
        "--learning_rate",
        1e-30,
        "--weight_decay",
        0,
    ]
    run("run_minilmv2.py", *flags, "--output_dir", tmp_path / "run")
    (step,) = [row for row in history(tmp_path / "run") if "lr" in row]
    heldout = read_json(tmp_path / "run" / "results.json")["metrics"]["heldout"]["loss"]
    assert step["loss"] == pytest.approx(heldout, rel=0.1)  # other blocks of the same text


def test_killed_run_ends_with_the_same_bytes(finished, base, tmp_path):
    parts = tmp_path / "parts"
    for number in (5, 8):
        assert kill_when(
            lambda number=number: at_row(number)(parts), "run_minilmv2.py", *base, "--output_dir", parts
        )
    run("run_minilmv2.py", *base, "--output_dir", parts)
    assert history(parts) == history(finished) and not (parts / "state").exists()
    for name in NAMES:
        file = f"student_{name}/model.safetensors"
        assert sha256(parts / file) == sha256(finished / file)


def test_two_processes_are_one(base, tmp_path):
    flags = [*base, "--hidn_dropout", 0, "--att_dropout", 0, "--learning_rate", 1e-4]
    run("run_minilmv2.py", *flags, "--output_dir", tmp_path / "one")
    run(
        "run_minilmv2.py",
        *flags,
        "--output_dir",
        tmp_path / "two",
        "--per_device_train_batch_size",
        8,
        processes=2,
    )
    one, two = weights(tmp_path / "one" / "ckpt"), weights(tmp_path / "two" / "ckpt")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def test_with_masked_tokens_too(base, tmp_path):
    run("run_minilmv2.py", *base, "--mlm_weight", 0.5, "--max_steps", 2, "--output_dir", tmp_path / "run")
    assert all("mlm" in row for row in history(tmp_path / "run") if "lr" in row)


@pytest.mark.parametrize(
    "flags, messages",
    [
        (
            ["--ofa_layer", "6,x"],
            ["'6,x': 'x' is not a whole number of at least 1; expected numbers like 6,4,3"],
        ),
        (
            ["--ofa_hidden", "768,500"],
            [
                "--ofa_hidden 500: no multiple of 64, the size of a head",
                "--num_relation_heads 32: does not divide --ofa_hidden 500",
            ],
        ),
        (
            [*"--ofa_layer 6 --layer 6 --student_path 6,3L".split()],
            [
                "--student_layer, --student_path: --ofa_layer, --ofa_hidden says what the student is; leave "
                "this out"
            ],
        ),
        (
            [*"--ofa_layer 6 --relation_source last".split()],
            ["--relation_source last: --ofa_layer, --ofa_hidden needs extra"],
        ),
        ([*"--ofa_layer 6 --compile".split()], ["--compile: has no effect on once-for-all students"]),
        (
            [*"--ofa_layer 2 --student_init layers".split()],
            ["needs a --student_hidden of 48, the teacher's; found 768"],
        ),
    ],
)
def test_flags_that_do_not_fit(flags, messages, small_teacher):
    with pytest.raises(FlagError) as caught:
        run_minilmv2.parse(["--corpus", "c", "--teacher_model_path", str(small_teacher), *flags])
    assert all(message in str(caught.value) for message in messages), caught.value
