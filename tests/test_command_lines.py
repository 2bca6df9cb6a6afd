"""Command lines as people write them: with flags missing, with those of the papers' own scripts, with a slip
of the pen."""

import importlib
import itertools

import pytest
from commands import ROOT, run

from utils.errors import FlagError
from utils.files import read_json, write_json

SCRIPTS = sorted(path.stem for path in ROOT.glob("run_*.py"))
TASK = {"--task_name": "demo"}
TEACHER, MODEL = {"--teacher_model_path": "{tuned}"}, {"--model_path": "{tuned}"}
CORPUS = {"--corpus": "{corpus}", "--teacher_model_path": "{encoder}"}
# Script: flags without which it says what is missing; each subset of them is left out
REQUIRED = {
    "run_finetuning": [{"--task_name": "mrpc", **MODEL}],
    "run_sparsification": [{**TASK, **MODEL}, {"--task_name": "corpus", "--corpus": "{corpus}", **MODEL}],
    "run_distillation": [{**TASK, **TEACHER}],
    "run_maxidisc": [{**TASK, **TEACHER}],
    "run_minidisc": [{**TASK, **TEACHER}],
    "run_stark": [{**TASK, **TEACHER, "--student_model_path": "{tuned}"}],
    "run_ted": [
        {**TASK, "--mode": "filters", **MODEL},
        {**TASK, "--mode": "ft", "--student_model_path": "{tuned}"},
        *(
            {**TASK, "--mode": mode, **TEACHER, "--student_model_path": "{tuned}"}
            for mode in ("kd", "lwd", "ted")
        ),
    ],
    "run_minilmv2": [CORPUS],
    "run_minimoe": [CORPUS],
    "run_corpus": [{"--input": "{corpus}", "--tokenizer_name_or_path": "{tuned}"}],
    "run_vocabulary": [{**TASK, "--vocabulary_size": 20, "--model_path": "{encoder}"}],
    "run_evaluation": [{**TASK, **MODEL}],
}
# What is required only where another flag says so
DEPENDS = {
    ("run_finetuning", "--model_path"): "--task_name",
    ("run_sparsification", "--corpus"): "--task_name",
    **{("run_ted", f"--{path}_path"): "--mode" for path in ("model", "teacher_model", "student_model")},
}


@pytest.fixture(scope="module")
def places(tuned_demo, nested_demo, small_demo, demo_corpus, small_teacher):
    return {
        "tuned": tuned_demo,
        "nested": nested_demo,
        "data": small_demo,
        "corpus": demo_corpus,
        "encoder": small_teacher,
    }


def parse(script, words, places):
    return importlib.import_module(script).parse([str(word).format_map(places) for word in words])


@pytest.mark.parametrize("script", SCRIPTS)
def test_all_that_is_missing_is_said_at_once(script, places):
    for whole in REQUIRED[script]:
        for number in range(len(whole) + 1):
            for given in itertools.combinations(whole, number):
                missing = [flag for flag in whole if flag not in given]
                words = [word for flag in given for word in (flag, whole[flag])]
                if not missing:
                    continue
                with pytest.raises(FlagError) as error:
                    parse(script, [*words, "--seed", "one", "--ouput_dir", "x"], places)
                said = str(error.value)
                for flag in missing:
                    if DEPENDS.get((script, flag), flag) not in missing or (script, flag) not in DEPENDS:
                        assert flag in said, f"{script} {words}: {said}"
                assert "--seed: 'one'" in said and "--ouput_dir: no such flag; is --output_dir meant?" in said


def test_a_task_that_is_meant(places):
    with pytest.raises(FlagError, match=r"'mrcp' is not one of .*; is mrpc meant"):
        parse("run_finetuning", ["--task_name", "mrcp"], places)


# What the papers' READMEs and scripts name: MiniDisc, StarK, TED, minilmv2.bb, MiniMoE
DISTIL = [
    "--task_name",
    "demo",
    "--data_type",
    "bert_cls",
    "--data_dir",
    "{data}",
    "--teacher_model_path",
    "{nested}",
]
COMMON = [
    *"--max_length 64 --per_device_train_batch_size 16".split(),
    *"--per_device_eval_batch_size 32 --num_grad_accum_steps 1 --learning_rate 3e-05".split(),
    *"--weight_decay 0.01 --log_interval 100 --num_train_epochs 1".split(),
    *"--num_patience_epochs 5 --warmup_proportion 0.1 --max_grad_norm 5.0 --seed 776".split(),
]
BB = [
    *"--train_config {corpus} --input_model_dir {encoder} --student_hidden_size 24".split(),
    *"--student_num_layers 2 --student_attention_heads 4".split(),
    "--minilm_relations",
    "{{(1, 1): 1, (2, 2): 1, (3, 3): 1}}",
    *"--L 3 --num_relation_heads 4 --max_seq_len 24 --tokenizer_dir {encoder}".split(),
    *"--per_device_train_batch_size 8 --learning_rate 0.0006 --adam_epsilon 1e-06".split(),
    *"--adam_beta1 0.9 --adam_beta2 0.999 --weight_decay 0.01 --max_steps 2".split(),
    *"--save_steps 50000 --logging_steps 1 --warmup_steps 1".split(),
    *"--ddp_find_unused_parameters true".split(),
]
MOE = [
    *"--record_path_or_regex {corpus} --data_type bert_nil".split(),
    *"--teacher_model_name_or_path {encoder} --layer 2 --hidden 24".split(),
    *"--num_relation_heads 4 --iteration 1 --model_suffix 3L --use_fp16".split(),
]
SQUAD = [
    *"--task_name squad2 --max_seq_length 384 --doc_stride 128 --n_best_size 20".split(),
    *"--max_answer_length 30 --null_score_diff_threshold 0.0".split(),
    *"--version_2_with_negative".split(),
]
DROPOUT = ["--cls_dropout", 0.1, "--hidn_dropout", 0.1, "--att_dropout", 0.1]
PAPERS = [
    ("run_sparsification", ["--model_type", "sparsebert_cls", *DISTIL[:-1], "{tuned}"]),
    (
        "run_distillation",
        [
            *DISTIL,
            *COMMON,
            *"--model_type sparsebert_cls --layer_or_sparsity 90S --selection_metric acc".split(),
        ],
    ),
    (
        "run_maxidisc",
        [*DISTIL, *COMMON, *"--model_type sparsebert_cls --layer_or_sparsity_path 80,90S".split()],
    ),
    (
        "run_minidisc",
        [
            *DISTIL,
            *COMMON,
            *"--model_type sparsebert_cls --target_iteration 2 --target_sparsity 90 --lam 0.2".split(),
        ],
    ),
    (
        "run_distillation",
        [
            *"--task_name demo --data_type combined --model_type kd".split(),
            *"--teacher_model_path {tuned} --student_model_path {nested}".split(),
            *"--student_sparsity 70".split(),
        ],
    ),
    (
        "run_stark",
        [
            *"--task_name demo --data_type combined --model_type kd".split(),
            *"--teacher_model_path {tuned} --student_model_path {nested} --student_sparsity 0".split(),
            *"--lam 0.5".split(),
        ],
    ),
    (
        "run_stark",
        [
            *"--task_name demo --model_type kd --teacher_model_path {tuned}".split(),
            *"--student_model_path {tuned} --student_layer 4 --lam 0.5".split(),
        ],
    ),
    (
        "run_ted",
        [
            *SQUAD,
            *"--mode filters --model_path {encoder} --filter_interval 1".split(),
            *"--filter_output_dim 768 --filter_nonlinear true".split(),
        ],
    ),
    (
        "run_ted",
        [
            *SQUAD,
            *"--mode kd --teacher_model_path {encoder} --student_model_path {encoder}".split(),
            *"--filter_disabled true --kl_alpha 10".split(),
        ],
    ),
    (
        "run_ted",
        [
            *"--task_name demo --mode lwd --teacher_model_path {tuned}".split(),
            *"--student_model_path {tuned} --filter_disabled --teacher_filter_interval 1".split(),
            *"--kl_alpha 5 --mse_alpha 100".split(),
            *DROPOUT,
        ],
    ),
    ("run_minilmv2", [*BB, *"--val_config none --checkpoint_dir outputs/x".split()]),
    ("run_minilmv2", [*MOE, "--model_type", "bert_minilm"]),
    ("run_minilmv2", [*MOE[:6], *"--model_type bert_minilm --student_model_name_or_path {encoder}".split()]),
    ("run_minimoe", [*MOE, *"--model_type moebert_minilm --moe 1,4".split()]),
    (
        "run_sparsification",
        [
            *"--task_name corpus --model_type sparsebert_mlm --record_path_or_regex {corpus}".split(),
            *"--teacher_model_name_or_path {tuned}".split(),
        ],
    ),
    (
        "run_corpus",
        [
            *"--input_dir {corpus} --input_regex *.arrow --num_processors 1".split(),
            *"--tokenizer_name_or_path {tuned} --do_lower_case --max_seq_length 24".split(),
            *"--short_seq_prob 0.1".split(),
        ],
    ),
]


@pytest.mark.parametrize("script, words", PAPERS)
def test_the_papers_flags(script, words, places):
    args = parse(script, words, places)
    assert not {"save_steps", "ddp_find_unused_parameters", "model_suffix", "val_config"} & {*vars(args)}


def test_a_students_sorting_is_starks(places):
    words = ["--task_name", "demo", "--teacher_model_path", "{tuned}", "--student_model_path", "{nested}"]
    with pytest.raises(
        FlagError, match=r"run_stark.py --task_name demo --teacher_model_path .* --student_model_path "
    ):
        parse("run_sparsification", words, places)


def test_the_trial_student_is_compared(places):
    words = [
        "--task_name",
        "demo",
        "--teacher_model_path",
        "{tuned}",
        "--student_model_path",
        "{tuned}",
        "--student_layer",
        2,
    ]
    with pytest.raises(
        FlagError, match=r"--student_layer 2: the trial student has 4 layers and a sparsity of 0%"
    ):
        parse("run_stark", words, places)


def test_what_has_no_meaning_is_said(places, tmp_path):
    """minilmv2.bb's own command trains; --save_steps and its like are accepted, each with a line; the warm-up
    is one update."""
    words = [str(word).format_map(places) for word in BB]
    done = run(
        "run_minilmv2.py", *words, "--use_cpu", "--num_heldout_blocks", 40, "--output_dir", tmp_path / "run"
    )
    for flag in ("--save_steps", "--ddp_find_unused_parameters"):
        assert f"note: {flag}: has no meaning here" in done.stderr
    assert "warm-up 1 updates" in done.stderr + done.stdout


def test_a_corpus_config_with_columns_for_text(places, tmp_path):
    """The shape that run_corpus.py --help prints, as minilmv2.bb's train_config.json has it."""
    (tmp_path / "a.txt").write_text("One line.\n\nAnother one.\n" * 50)
    write_json(tmp_path / "config.json", {"urls": ["a.txt"], "format": "text", "columns": "text"})
    run(
        "run_corpus.py",
        "--input",
        tmp_path / "config.json",
        "--tokenizer_name_or_path",
        places["tuned"],
        *f"--max_seq_length 16 --num_workers 1 --output_dir {tmp_path / 'run'}".split(),
    )
    assert read_json(tmp_path / "run/corpus.json")
