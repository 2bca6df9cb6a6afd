"""run_minilmv2.py as a user runs it: on a tiny corpus of the demo task's sentences, from tiny random
teachers."""

import argparse

import pytest
import transformers
from commands import kill_when, run
from corpus_runs import LENGTH, SHORT, SIZES, save_teacher
from corpus_texts import save_normalised
from run_folders import at_row, history, weights

import models
import run_minilmv2
from utils.config_values import LENGTH as LENGTH_KEY
from utils.errors import FlagError
from utils.files import read_json, sha256, write_json
from utils.flags import relations
from utils.flags.hops import hops_of


@pytest.fixture(scope="module")
def base(demo_corpus, small_teacher):
    return ["--corpus", demo_corpus, "--teacher_model_path", small_teacher, "--num_relation_heads", 6, *SHORT]


@pytest.fixture(scope="module")
def flags(base):
    return [*base, *SIZES]


def test_from_teacher_to_a_fine_tuned_student(base, flags, small_teacher, small_demo, tmp_path):
    before = {file.name: sha256(file) for file in small_teacher.iterdir()}
    folder = tmp_path / "run"
    printed = run("run_minilmv2.py", *flags, "--output_dir", folder)
    assert printed.stdout.splitlines()[-1] == str(folder / "ckpt")
    assert before == {file.name: sha256(file) for file in small_teacher.iterdir()}
    # the loss on held-out blocks falls, relation by relation, and is drawn
    results = read_json(folder / "results.json")
    (hop,) = results["hops"]
    heldout = results["metrics"]["heldout"]
    assert hop["heldout_before"].keys() == heldout.keys() == {"qq", "kk", "vv", "loss"}
    assert heldout["loss"] == pytest.approx(heldout["qq"] + heldout["kk"] + heldout["vv"])
    assert heldout["loss"] < 0.8 * hop["heldout_before"]["loss"]
    assert (hop["teacher_layer"], hop["relation_heads"], hop["intermediate"]) == (3, 6, 96)
    scores = [row for row in history(folder) if "score" in row]
    assert [row["step"] for row in scores] == [4, 8, 12]
    assert all(row["score"] == pytest.approx(-row["heldout/loss"]) and "heldout/qq" in row for row in scores)
    assert (folder / "heldout.png").read_bytes().startswith(b"\x89PNG")
    # what is behind Q, K and V has the initial weights, the rest has not
    found = weights(folder / "ckpt")
    again = run(
        "run_minilmv2.py", *flags, "--output_dir", tmp_path / "one", "--max_steps", 1, "--learning_rate", 1e-9
    )
    first = weights(tmp_path / "one" / "ckpt")
    dead = [name for name in found if (found[name] - first[name]).abs().max() < 1e-7]
    behind = ("attention.output", "intermediate", "output.dense", "output.LayerNorm")
    assert dead == [
        name for name in found if "pooler" in name or any(f"layer.1.{part}" in name for part in behind)
    ], again
    # a stock model
    model, report = transformers.AutoModel.from_pretrained(folder / "ckpt", output_loading_info=True)
    assert (
        type(model) is transformers.BertModel and not report["missing_keys"] and not report["unexpected_keys"]
    )
    card = (folder / "ckpt" / "README.md").read_text()
    assert "as initialised" in card and "fill-mask" in card and "| teacher model | `random` |" in card
    tuned = tmp_path / "tuned"
    run(
        "run_finetuning.py",
        *f"--task_name demo --data_dir {small_demo} --model_path {folder} --use_cpu".split(),
        *f"--max_steps 2 --max_length {LENGTH} --output_dir {tuned}".split(),
    )
    assert read_json(tuned / "results.json")["num_steps"] == 2
    # a student of its own, trained on: it begins where the first one ended
    more = tmp_path / "more"
    run("run_minilmv2.py", *base, "--student_model_path", folder, "--output_dir", more)
    assert read_json(more / "results.json")["hops"][0]["heldout_before"] == pytest.approx(heldout, rel=1e-5)


def test_positions_behind_the_blocks_are_told_of(demo_corpus, demo_tokenizer, tmp_path, caplog):
    """A student's head is trained on rows that are longer than any block it has seen; a head that is there
    was, maybe, too."""
    teacher = save_teacher(tmp_path / "teacher", demo_tokenizer, max_position_embeddings=40)
    config = read_json(teacher / "config.json")
    write_json(teacher / "config.json", config | {LENGTH_KEY: 39})  # the student's begins anew
    made = (
        "--corpus",
        demo_corpus,
        "--teacher_model_path",
        teacher,
        "--num_relation_heads",
        6,
        *SHORT,
        *SIZES,
    )
    run("run_minilmv2.py", *made, "--max_steps", 1, "--output_dir", tmp_path / "run")
    assert read_json(tmp_path / "run" / "ckpt" / "config.json")[LENGTH_KEY] == LENGTH
    options = {"kind": "classification", "label_names": ("no", "yes"), "new_head": True}
    models.load_model(tmp_path / "run", **options, max_length=LENGTH)
    assert "blocks of" not in caplog.text
    model = models.load_model(tmp_path / "run", **options, max_length=LENGTH + 1)
    assert f"distilled on blocks of {LENGTH} tokens" in caplog.text
    caplog.clear()
    models.save_model(model, tmp_path / "tuned", tokenizer=demo_tokenizer)
    models.load_model(tmp_path / "tuned", **options, max_length=LENGTH + 1)
    assert "blocks of" not in caplog.text


CASES = {
    "plain": ((), 5),
    "accumulated": (("--num_grad_accum_steps", 2, "--per_device_train_batch_size", 8), 7),
    "assistant": (("--student_path", "3,2L", "--student_init", "embeddings"), 21),
    "streaming": (("--streaming", "--shuffle_buffer", 50), 5),
    "with masked tokens": (
        ("--mlm_weight", 0.5, "--relation_source", "extra", "--relations", "qk=1,vv=2"),
        7,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_run_ends_with_the_same_bytes(name, flags, demo_text, small_teacher, tmp_path):
    options, row = CASES[name]
    options = [*flags, *options]
    if "--student_path" in options:
        del options[options.index("--layer") : options.index("--layer") + 2]
        options[options.index("--hidden") + 1] = 48
    if "--streaming" in options:
        options[options.index("--corpus") + 1] = demo_text
        options += ["--max_length", LENGTH]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("run_minilmv2.py", *options, "--output_dir", whole)
    assert kill_when(lambda: at_row(row)(parts), "run_minilmv2.py", *options, "--output_dir", parts)
    run("run_minilmv2.py", *options, "--output_dir", parts)
    assert history(parts) == history(whole) and not (parts / "state").exists()
    assert sha256(parts / "ckpt" / "model.safetensors") == sha256(whole / "ckpt" / "model.safetensors")
    if "--student_path" in options:
        assert read_json(whole / "assistant_1" / "config.json")["num_hidden_layers"] == 3
        assert [hop["teacher_layer"] for hop in read_json(whole / "results.json")["hops"]] == [3, 3]
        assert (whole / "heldout_1.png").exists() and (whole / "heldout_2.png").exists()
    if "--streaming" in options:
        options += ["--tokenizer_name_or_path", save_normalised(small_teacher, tmp_path / "other")]
        refused = run("run_minilmv2.py", *options, "--output_dir", whole, code=2)
        assert "tokenizer/text to ids: " in refused.stderr
    if "--mlm_weight" in options:
        assert (
            "mlm" in history(whole)[0]
            and "fine-tuning trains them" not in (whole / "ckpt" / "README.md").read_text().lower()
        )


@pytest.mark.parametrize("weighting", ["sequence", "token"])
def test_two_processes_are_one(weighting, flags, tmp_path):
    plain = [
        *flags,
        "--hidn_dropout",
        0,
        "--att_dropout",
        0,
        "--relation_weighting",
        weighting,
        "--learning_rate",
        1e-4,
    ]
    run("run_minilmv2.py", *plain, "--output_dir", tmp_path / "whole")
    run(
        "run_minilmv2.py",
        *plain,
        "--output_dir",
        tmp_path / "halves",
        "--per_device_train_batch_size",
        8,
        processes=2,
    )
    ours, theirs = (weights(tmp_path / name / "ckpt") for name in ("halves", "whole"))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5
    for a, b in zip(history(tmp_path / "halves"), history(tmp_path / "whole"), strict=True):
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6) for key in a.keys() - {"stage"})


def test_dry_run_leaves_nothing_behind(flags, tmp_path):
    run("run_minilmv2.py", *flags, "--dry_run", "--output_dir", tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("family, layers, width, layer, heads", [
    ("bert", 24, 1024, 21, 64), ("roberta", 24, 1024, 19, 64), ("xlm-roberta", 24, 1024, 19, 64), ("electra",
    24, 1024, 24, 64),
    ("bert", 12, 768, 12, 48), ("bert", 6, 384, 6, 64), ("deberta-v2", 12, 1536, 12, 48), ("bert", 3, 312, 3,
    24),
])  # fmt: skip
def test_presets(family, layers, width, layer, heads, small_teacher):
    attention_heads = 16 if width == 1024 else 12
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": attention_heads,
        "intermediate_size": 4 * width,
    }
    config, hidden = {"model_type": family, **sizes}, 312 if width == 312 else 384
    words = [
        "--corpus",
        "c",
        "--teacher_model_path",
        str(small_teacher),
        "--hidden",
        str(hidden),
        "--num_relation_heads",
        "1",
    ]
    args = run_minilmv2.parse(words)
    args.num_relation_heads = None
    (hop,) = hops_of(args, config)
    assert (hop.teacher_layer, hop.relation_heads, hop.layers, hop.intermediate) == (
        layer,
        heads,
        6,
        4 * hidden,
    )
    args.student_path = ["12L", "3L"]
    assert [hop.teacher_layer for hop in hops_of(args, config)] == [layer, 12]
    args.iteration = 2  # the teacher is a student, which was trained in its last layer
    assert [hop.teacher_layer for hop in hops_of(args, config)] == [layers, 12]


def test_layers_without_heads_have_no_relations(small_teacher):
    """Of a cropped encoder whichever layer is asked for; extra projections do without the student's."""
    args = run_minilmv2.parse(["--corpus", "c", "--teacher_model_path", str(small_teacher)])
    whole = read_json(small_teacher / "config.json")
    sizes = {"original_heads": 4, "original_neurons": 96, "neurons": [96, 96, 96]}
    cropped = {**whole, "compression": {"kind": "sparse", "sparsity": 50.0, "heads": [4, 2, 0], **sizes}}
    args.num_relation_heads, args.student_init = 6, None
    with pytest.raises(FlagError, match="teacher's layer 3: no heads are left"):
        hops_of(args, cropped, whole)
    args.teacher_layer = 2
    assert hops_of(args, cropped, whole)[0].teacher_layer == 2
    args.teacher_layer = 3
    with pytest.raises(FlagError, match="student's last layer: no heads are left"):
        hops_of(args, whole, cropped)
    args.relation_source = "extra"
    assert hops_of(args, whole, cropped)[0].layers == 3


@pytest.mark.parametrize("text, expected", [
    ("qq=1,kk=0.5,vq=2", {"qq": 1.0, "kk": 0.5, "vq": 2.0}), ("qq=1, kk=0", {"qq": 1.0}),
    ("{(1, 1): 1, (2, 2): 1, (3, 2): 0.25}", {"qq": 1.0, "kk": 1.0, "vk": 0.25}),
    ("qq", None), ("qx=1", None), ("qq=1,qq=2", None), ("{(1, 1): 1, (0, 2): 1}", None), ("qq=-1", None), ("",
    None),
    ("qq=0", None),
])  # fmt: skip
def test_relations_flag(text, expected):
    if expected is not None:
        assert relations.relation_weights(text) == expected
        return
    with pytest.raises(argparse.ArgumentTypeError):
        relations.relation_weights(text)


def test_all_problems_with_the_flags_at_once(demo_corpus, small_teacher, tmp_path):
    message = run(
        "run_minilmv2.py",
        "--corpus",
        demo_corpus,
        demo_corpus,
        "--teacher_model_path",
        small_teacher,
        "--hidden",
        30,
        "--heads",
        4,
        "--L",
        5,
        "--num_relation_heads",
        48,
        "--student_init",
        "layers",
        "--output_dir",
        tmp_path / "run",
        "--use_cpu",
        code=2,
    ).stderr
    parts = (
        "found 2 paths",
        "--student_heads 4: does not divide --student_hidden 30; its divisors: 1, 2, 3, 5, 6, 10, 15, 30",
        "--teacher_layer 5: the teacher has 3 layers",
        "width 48 and the student's 30; choose one of 1, 2, 3, 6",
        "needs a --student_hidden of 48",
        "needs a --student_intermediate of 96",
        "6 layers wanted, the teacher has 3",
    )
    assert all(part in message for part in parts), message
    both = (
        "--corpus",
        demo_corpus,
        "--teacher_model_path",
        small_teacher,
        "--student_model_path",
        small_teacher,
        "--layer",
        2,
    )
    message = run("run_minilmv2.py", *both, code=2).stderr
    assert "--student_model_path and --student_layer: both say" in message
    message = run(
        "run_minilmv2.py", *both, "--minilm_relations", "{(1, 4): 1}", "--mlm_probability", 2, code=2
    ).stderr
    assert "{(1, 4): 1}" in message and "--mlm_probability: '2'" in message
    assert not list(tmp_path.iterdir())


def test_a_teacher_that_is_not_in_the_table(demo_corpus, demo_tokenizer, tmp_path):
    config = transformers.AlbertConfig(
        vocab_size=len(demo_tokenizer),
        hidden_size=8,
        embedding_size=8,
        num_attention_heads=2,
        intermediate_size=8,
        num_hidden_layers=2,
    )
    transformers.AlbertModel(config).save_pretrained(tmp_path / "albert")
    demo_tokenizer.save_pretrained(tmp_path / "albert")
    message = run(
        "run_minilmv2.py",
        "--corpus",
        demo_corpus,
        "--teacher_model_path",
        tmp_path / "albert",
        "--hidden",
        8,
        "--heads",
        2,
        "--num_relation_heads",
        4,
        "--use_cpu",
        "--output_dir",
        tmp_path / "run",
        code=2,
    ).stderr
    assert (
        "'albert' is not supported: all its layers are one and the same" in message
        and "utils/families.py" in message
    )
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_a_mask(flags, demo_tokenizer, tmp_path):
    """Refused before there is a folder, where tokens would be masked."""
    file = tmp_path / "tokenizer.json"
    demo_tokenizer.backend_tokenizer.save(str(file))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **names)
    made.save_pretrained(tmp_path / "unmasked")
    words = [*flags, "--tokenizer_name_or_path", tmp_path / "unmasked", "--output_dir", tmp_path / "run"]
    done = run("run_minilmv2.py", *words, "--mlm_weight", 1, code=2)
    assert "its tokenizer has no mask token" in done.stderr and not (tmp_path / "run").exists()


def test_a_student_with_another_vocabulary_or_too_few_positions(base, small_teacher, tmp_path):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    for changed, expected in (
        ({"vocab_size": 9}, "9 pieces"),
        ({"max_position_embeddings": 10}, "at most 10 positions"),
    ):
        settings = {**transformers.AutoConfig.from_pretrained(small_teacher).to_dict(), **sizes, **changed}
        folder = tmp_path / next(iter(changed))
        transformers.BertConfig(**settings).save_pretrained(folder)
        message = run(
            "run_minilmv2.py", *base, "--student_model_path", folder, "--output_dir", tmp_path / "run", code=2
        ).stderr
        assert expected in message
    assert not (tmp_path / "run").exists()
