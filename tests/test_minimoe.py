"""run_minimoe.py as a user runs it, and what comes after it: fine-tuning, distillation, evaluation of a
student with experts."""

import shutil

import pytest
import transformers
from commands import kill_when, run
from corpus_runs import SHORT, SIZES
from corpus_texts import save_normalised
from run_folders import at_row, history, weights

import models
import run_minimoe
from utils.errors import FlagError
from utils.files import read_json, sha256, write_json


@pytest.fixture(scope="module")
def start(demo_corpus, small_teacher):
    return ["--corpus", demo_corpus, "--teacher_model_path", small_teacher, *SHORT, "--num_relation_heads", 6]


@pytest.fixture(scope="module")
def base(start):
    return [*start, "--moe", "1,4", *SIZES]


@pytest.fixture(scope="module")
def student(tmp_path_factory, base):
    """A finished run of a student with 4 feed-forward experts."""
    folder = tmp_path_factory.mktemp("minimoe") / "run"
    run("run_minimoe.py", *base, "--output_dir", folder)
    return folder


def test_the_run(student):
    results, logged = read_json(student / "results.json"), history(student)
    (hop,) = results["hops"]
    assert results["metrics"]["heldout"]["loss"] < 0.9 * hop["heldout_before"]["loss"]
    assert (hop["teacher_layer"], hop["relation_heads"]) == (3, 6)
    # the balance loss is a term like the others; each layer's shares are beside it
    steps = [row for row in logged if "lr" in row]
    assert len(steps) == 12
    for row in steps:
        assert row["loss"] == pytest.approx(
            row["balance"] + sum(row[f"relation/{name}"] for name in ("qq", "kk", "vv"))
        )
        assert 0.01 <= row["balance"] < 0.04
        for layer in range(2):
            assert len(row[f"experts/ffn/{layer}"]) == 4 and sum(
                row[f"experts/ffn/{layer}"]
            ) == pytest.approx(1, abs=1e-5)
    for picture in ("heldout.png", "experts.png"):
        assert (student / picture).read_bytes().startswith(b"\x89PNG")
    # the checkpoint: sizes of one expert, no projection, nothing missing, nothing left over
    config = read_json(student / "ckpt" / "config.json")
    assert (config["model_type"], config["intermediate_size"], config["num_attention_heads"]) == (
        "moe-bert",
        96,
        4,
    )
    assert config["compression"] == {
        "kind": "experts",
        "attention_experts": 1,
        "ffn_experts": 4,
        "gate_noise": "multiplicative",
        "route_padding": False,
    }
    model, report = transformers.AutoModel.from_pretrained(student / "ckpt", output_loading_info=True)
    assert (
        type(model).__name__ == "MoeBertModel"
        and not report["missing_keys"]
        and not report["unexpected_keys"]
    )
    assert results["model"]["experts"] == "1,4"
    assert results["model"]["parameters"] == sum(
        tensor.numel() for tensor in weights(student / "ckpt").values()
    )
    assert results["model"]["macs"] == 128 * 2 * (12 * 24 * 24 + 4 * 24)
    card = (student / "ckpt" / "README.md").read_text()
    assert "import models" in card and "moe-bert" in card


def test_all_layers_are_trained_and_experts_part(student, base, tmp_path):
    """Also the last layer's; experts begin with two thirds in common, whose rows training has told apart."""
    run("run_minimoe.py", *base, "--output_dir", tmp_path / "one", "--max_steps", 1, "--learning_rate", 1e-9)
    first, found = weights(tmp_path / "one" / "ckpt"), weights(student / "ckpt")
    still = [name for name in found if (found[name] - first[name]).abs().max() < 1e-7]
    assert all("pooler" in name for name in still)
    name = "encoder.layer.1.intermediate.dense.weight"
    assert (
        (first[name][0, :64] - first[name][1, :64]).abs().max()
        < 1e-7
        < (first[name][0, 64:] - first[name][1, 64:]).abs().min()
    )
    assert (found[name][0, :64] - found[name][1, :64]).abs().max() > 1e-4


def test_killed_run_ends_with_the_same_bytes(student, base, tmp_path):
    parts = tmp_path / "parts"
    for number in (5, 8):
        assert kill_when(
            lambda number=number: at_row(number)(parts), "run_minimoe.py", *base, "--output_dir", parts
        )
    run("run_minimoe.py", *base, "--output_dir", parts)
    assert sha256(parts / "ckpt" / "model.safetensors") == sha256(student / "ckpt" / "model.safetensors")
    assert history(parts) == history(student)
    assert sha256(parts / "experts.png") == sha256(student / "experts.png")


def test_continued_with_another_tokenizer(student, base, small_teacher, tmp_path):
    """Refused; a run of an earlier version did not record its tokenizer, and is reported."""
    folder, record = tmp_path / "run", read_json(student / "args.json")
    shutil.copytree(student, folder)
    command = ["run_minimoe.py", *base, "--output_dir", folder, "--tokenizer_name_or_path"]
    command.append(save_normalised(small_teacher, tmp_path / "other"))
    assert "tokenizer/text to ids: " in run(*command, code=2).stderr
    del record["inputs"]["tokenizer/text to ids"]
    write_json(folder / "args.json", record)
    assert "finished before" in run(*command).stderr


def test_two_processes_are_one(base, tmp_path):
    """The same updates of the same blocks: shares of tokens are counted over both; noise and dropout are each
    one's own."""
    flags = [
        *base,
        *"--gate_noise none --hidn_dropout 0 --att_dropout 0 --moe 2,4 --max_steps 6".split(),
        *"--expert_shared_fraction 1/2".split(),
    ]
    run("run_minimoe.py", *flags, "--output_dir", tmp_path / "one")
    run(
        "run_minimoe.py",
        *flags,
        "--output_dir",
        tmp_path / "two",
        "--per_device_train_batch_size",
        8,
        processes=2,
    )
    one, two = weights(tmp_path / "one" / "ckpt"), weights(tmp_path / "two" / "ckpt")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    for ours, theirs in zip(history(tmp_path / "two"), history(tmp_path / "one")):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"stage", "choice"}:
            assert ours[key] == pytest.approx(theirs[key], rel=2e-3, abs=1e-5), (ours["step"], key)


def test_dense_twin_and_upcycling(start, base, student, tmp_path):
    """1,1 is a stock student, trained in the same way; its checkpoint, turned into experts, begins where it
    ended."""
    run("run_minimoe.py", *base, "--moe", "1,1", "--output_dir", tmp_path / "dense")
    results, twin = read_json(tmp_path / "dense" / "results.json"), read_json(student / "results.json")
    assert read_json(tmp_path / "dense" / "ckpt" / "config.json")["model_type"] == "bert"
    assert results["model"]["macs"] == twin["model"]["macs"] - 128 * 2 * 4 * 24  # the routers
    assert not (tmp_path / "dense" / "experts.png").exists()
    run(
        "run_minimoe.py",
        *start,
        "--student_model_path",
        tmp_path / "dense",
        "--output_dir",
        tmp_path / "experts",
    )
    again = read_json(tmp_path / "experts" / "results.json")
    assert again["model"]["experts"] == "1,4"
    assert read_json(tmp_path / "experts" / "args.json")["settings"]["expert_init"] == "equal"
    for relation, value in again["hops"][0][
        "heldout_before"
    ].items():  # but for the projections, which are drawn anew
        assert value > 0 and relation in results["metrics"]["heldout"]
    dense, made = (models.load_model(tmp_path / name) for name in ("dense", "experts"))
    assert {*dict(dense.named_parameters())} < {*dict(made.named_parameters())}


@pytest.mark.parametrize("init", ["random", "slice"])
def test_equal_experts_begin_as_the_dense_twin(init, start, tmp_path):
    """Before any update and with the same flags, held-out terms are the dense twin's; those of random experts
    are not."""
    found = {}
    for name, flags in {
        "dense": ("--moe", "1,1"),
        "two": ("--moe", "1,2", "--expert_init", "equal"),
        "random": ("--moe", "1,4"),
        "four": ("--moe", "2,4", "--expert_init", "equal", "--gate_noise", "additive"),
        "whole": ("--moe", "1,4", "--expert_init", "equal", "--expert_shared_fraction", 1),
    }.items():
        shared = ("--expert_shared_fraction", "1/2") if name == "random" else ()
        run(
            "run_minimoe.py",
            *start,
            *SIZES,
            *flags,
            *shared,
            *f"--student_init {init} --max_steps 1 --output_dir {tmp_path / name}".split(),
        )
        found[name] = read_json(tmp_path / name / "results.json")["hops"][0]["heldout_before"]
    for name in ("two", "four", "whole"):
        assert found[name] == pytest.approx(found["dense"], rel=0, abs=1e-6), name
    assert abs(found["random"]["loss"] - found["dense"]["loss"]) > 1e-4


def test_equal_experts_part_in_training(base, tmp_path):
    """Though they begin as copies: tokens are shared out from the first update on, and tell them apart."""
    run("run_minimoe.py", *base, "--expert_init", "equal", "--output_dir", tmp_path / "run")
    shares = [
        row[f"experts/ffn/{layer}"] for row in history(tmp_path / "run") if "lr" in row for layer in range(2)
    ]
    assert len(shares) == 24 and all(sum(share > 0.01 for share in row) >= 2 for row in shares), shares
    found = weights(tmp_path / "run" / "ckpt")
    for layer in range(2):
        weight = found[f"encoder.layer.{layer}.intermediate.dense.weight"]
        assert all((weight[i] - weight[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))
    results = read_json(tmp_path / "run" / "results.json")
    assert results["metrics"]["heldout"]["loss"] < 0.9 * results["hops"][0]["heldout_before"]["loss"]


def test_assistants_are_dense(start, tmp_path):
    run(
        "run_minimoe.py",
        *start,
        *"--hidden 24 --heads 4 --student_path 2,1L --relation_source last".split(),
        *f"--output_dir {tmp_path / 'run'} --max_steps 4".split(),
    )
    types = [
        read_json(tmp_path / "run" / part / "config.json")["model_type"] for part in ("assistant_1", "ckpt")
    ]
    assert types == ["bert", "moe-bert"]


# ---- What comes after


TASK = (
    *"--task_name demo --use_cpu --max_steps 8 --eval_interval 4 --log_interval 2".split(),
    *"--per_device_train_batch_size 16 --learning_rate 0.001".split(),
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, student, small_demo):
    folder = tmp_path_factory.mktemp("tuned") / "run"
    run(
        "run_finetuning.py",
        *TASK,
        "--data_dir",
        small_demo,
        "--model_path",
        student,
        "--output_dir",
        folder,
        "--max_length",
        24,
    )
    return folder


def test_fine_tuning(tuned, student, small_demo, tmp_path):
    logged = [row for row in history(tuned) if "lr" in row]
    assert all(row["loss"] == pytest.approx(row["task"] + row["balance"]) for row in logged)
    assert all(len(row["experts/ffn/1"]) == 4 for row in logged)
    assert read_json(tuned / "ckpt" / "config.json")["architectures"] == ["MoeBertForSequenceClassification"]
    run(
        "run_finetuning.py",
        *TASK,
        *f"--data_dir {small_demo} --model_path {student} --output_dir {tmp_path / 'run'}".split(),
        *"--load_balance_weight 0 --max_length 24".split(),
    )
    # nothing is removed from experts: the next command exports
    log = (tuned / "log.txt").read_text()
    assert f"next: python run_evaluation.py --model_path {tuned} --task_name demo" in log
    assert log.rstrip().endswith("--export compact onnx")
    without = [row for row in history(tmp_path / "run") if "lr" in row]
    assert all("balance" not in row and len(row["experts/ffn/1"]) == 4 for row in without)


def test_distillation_and_evaluation(tuned, tuned_demo, small_demo, tmp_path):
    """As a teacher, of fewer of its own layers and of a dense student; as a student; all of them measured."""
    flags = ("run_distillation.py", *TASK, "--data_dir", small_demo, "--max_length", 24, "--max_steps", 4)
    run(*flags, "--teacher_model_path", tuned, "--layer_or_sparsity", "1L", "--output_dir", tmp_path / "1L")
    assert read_json(tmp_path / "1L" / "ckpt" / "config.json")["num_hidden_layers"] == 1
    assert "experts/ffn/0" in history(tmp_path / "1L")[0] and "balance" in history(tmp_path / "1L")[0]
    run(
        *flags,
        *f"--teacher_model_path {tuned} --student_model_path {tuned_demo} --model_type kd".split(),
        *f"--output_dir {tmp_path / 'dense'}".split(),
    )
    assert "balance" not in history(tmp_path / "dense")[0]
    run(
        *flags,
        *f"--teacher_model_path {tuned_demo} --student_model_path {tuned} --model_type kd".split(),
        *f"--output_dir {tmp_path / 'experts'} --load_balance_weight 0.5".split(),
    )
    assert history(tmp_path / "experts")[0]["balance"] > 0.4
    run(
        "run_evaluation.py",
        *f"--task_name demo --data_dir {small_demo} --use_cpu".split(),
        *f"--model_path {tuned} {tmp_path / '1L'} {tuned_demo}".split(),
        *f"--output_dir {tmp_path / 'evaluation'} --max_length 24".split(),
    )
    table = read_json(tmp_path / "evaluation" / "results.json")["rows"]
    assert [row.get("experts") for row in table] == ["1,4", "1,4", None]
    done = run(
        "run_evaluation.py",
        *f"--task_name demo --use_cpu --model_path {tuned} --export dense".split(),
        code=2,
    )
    assert "--export dense: the model has experts" in done.stderr


@pytest.mark.parametrize(
    "script, flag",
    [
        ("run_sparsification.py", "--model_path"),
        ("run_minidisc.py", "--teacher_model_path"),
        ("run_distillation.py", "--teacher_model_path"),
    ],
)
def test_only_dense_models_lose_units(script, flag, tuned, small_demo, tmp_path):
    part = ("--layer_or_sparsity", "90S") if script == "run_distillation.py" else ()
    done = run(
        script,
        *f"--task_name demo --data_dir {small_demo} --use_cpu {flag} {tuned}".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
        *part,
        code=2,
    )
    assert (
        "has experts (moe-bert)" in done.stderr and "dense" in done.stderr and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "run").exists()


# ---- Bad input


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--moe", "0,4"], "'0,4': expected attention and feed-forward experts, each at least 1, like 1,4"),
        (["--moe", "4"], "'4': expected attention and feed-forward experts"),
        (["--moe", "1,-4"], "expected attention and feed-forward experts"),
        (["--moe", "1,4,4"], "expected attention and feed-forward experts"),
        (
            ["--intermediate", "100"],
            "--expert_shared_fraction 2/3: of 100 feed-forward neurons that is no whole number; choose a "
            "multiple of 1/100, like 67/100",
        ),
        (["--moe", "2,1"], "--expert_shared_fraction 2/3: of 4 heads that is no whole number"),
        (["--expert_shared_fraction", "4/3"], "expected a fraction from 0 to 1, like 2/3 or 0.5"),
        (["--expert_shared_fraction", "1/0"], "expected a fraction from 0 to 1"),
        (["--heads", "5"], "--student_heads 5: does not divide --student_hidden 24"),
        (
            ["--num_relation_heads", "32"],
            "--num_relation_heads 32: does not divide both the teacher's width 48 and the student's 24",
        ),
        (
            [*"--moe 1,1 --load_balance_weight 0.1".split()],
            "--load_balance_weight: has no meaning with --moe 1,1",
        ),
        ([*"--moe 1,1 --gate_noise none".split()], "--gate_noise: has no meaning with --moe 1,1"),
        ([*"--moe 1,1 --expert_init equal".split()], "--expert_init: has no meaning with --moe 1,1"),
        (
            [*"--expert_init equal --expert_shared_fraction 2/3".split()],
            "--expert_shared_fraction 2/3: with --expert_init equal, as from a checkpoint, all experts begin "
            "as copies",
        ),
        (
            [*"--student_model_path {dense} --expert_init random".split()],
            "begin as copies of the sublayers of --student_model_path",
        ),
        (
            [*"--student_model_path {dense} --expert_shared_fraction 1/2".split()],
            "all experts begin as copies of a whole sublayer",
        ),
        (
            ["--student_model_path", "{config}"],
            "--expert_shared_fraction 2/3: of 100 feed-forward neurons that is no whole number",
        ),
        (["--student_model_path", "{student}"], "has experts already (moe-bert)"),
        (
            [*"--student_model_path {student} --expert_init equal".split()],
            "--moe, --expert_init: --student_model_path has experts",
        ),
    ],
)
def test_flags_that_do_not_fit(flags, message, start, base, student, small_teacher, tmp_path):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 100}
    transformers.BertConfig(**sizes).save_pretrained(tmp_path)
    given = "--student_model_path" in flags
    words = [str(word) for word in [*(start if given else base), "--moe", "1,4", *flags]]
    with pytest.raises(FlagError) as caught:
        run_minimoe.parse(
            [word.format(student=student, dense=small_teacher, config=tmp_path) for word in words]
        )
    assert message in str(caught.value)


def test_a_balance_weight_without_experts(
    tuned_demo, small_demo, student, small_teacher, demo_corpus, tmp_path
):
    done = run(
        "run_finetuning.py",
        *TASK,
        *f"--data_dir {small_demo} --model_path {tuned_demo} --load_balance_weight 1".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    assert "--load_balance_weight: the student (bert) has no experts" in done.stderr
    done = run(
        "run_minilmv2.py",
        *f"--corpus {demo_corpus} --teacher_model_path {small_teacher}".split(),
        *f"--student_model_path {student}".split(),
        *SHORT,
        *f"--num_relation_heads 6 --output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    assert "run_minimoe.py trains it" in done.stderr


def test_families_without_attention_experts(demo_tokenizer, demo_corpus, tmp_path):
    config = transformers.DebertaV2Config(
        vocab_size=len(demo_tokenizer), hidden_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    config.save_pretrained(tmp_path / "teacher")
    done = run(
        "run_minimoe.py",
        *f"--corpus {demo_corpus} --teacher_model_path {tmp_path / 'teacher'}".split(),
        *SHORT,
        *SIZES,
        *f"--moe 2,4 --output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    assert (
        "--moe 2,4: model_type deberta-v2: its attention cannot be experts, as relative positions"
        in done.stderr
    )
    assert "feed-forward" not in done.stderr


@pytest.mark.parametrize("change, message", [
    (lambda c: c.pop("compression"), "needs a compression entry of the kind experts, found none"),
    (lambda c: c["compression"].update(kind="sparse"), "kind: found 'sparse', expected one that goes with"),
    (lambda c: c["compression"].update(ffn_experts=3), "of another size"),
    (lambda c: c["compression"].update(ffn_experts=1), "unexpected: .*ffn_router"),
    (lambda c: c["compression"].update(ffn_experts="4"),
    "ffn_experts '4', expected a whole number of at least 1"),
    (lambda c: c["compression"].update(output_scale="two"),
    "output_scale 'two', expected one of probability, one"),
    (lambda c: c["compression"].update(gate_noise="loud"),
    "gate_noise 'loud', expected one of multiplicative"),
])  # fmt: skip
def test_damaged_configs(change, message, student, tmp_path):
    import json

    shutil.copytree(student / "ckpt", tmp_path / "ckpt")
    config = read_json(tmp_path / "ckpt" / "config.json")
    change(config)
    (tmp_path / "ckpt" / "config.json").write_text(json.dumps(config))
    with pytest.raises(models.loading.CheckpointError, match=message):
        models.load_model(tmp_path / "ckpt")
