"""Section "stages": every script for a few updates in each precision of 16 bits, from what the ones before it
wrote.

The scripts' main() runs in this process, on the demo task's data and models.
"""

import functools
import importlib
import importlib.util
import json
import math
import time
from pathlib import Path

from benchmarks.gpu import made_up
from benchmarks.gpu.settings import attempt


def rows(settings):
    """One for each stage and precision."""
    for precision in settings.precisions:
        for stage, script, words in stages(settings, settings.work / "stages" / precision):
            what = {"stage": stage, "precision": precision}
            yield attempt(what, functools.partial(run, script, words, precision, settings), settings)
    if not has_datasets():
        yield {"stage": "corpora that are built", "not to be had": "the datasets library is not installed"}


def run(script, words, precision, settings) -> dict:
    """Seconds, updates, first and last loss."""
    start = time.monotonic()
    if script != "run_corpus":  # which runs no model
        words = [*words, "--precision", precision, *made_up.here(settings)]
    module = importlib.import_module(script)
    args = module.parse([str(word) for word in words])
    module.main(args)
    return {"seconds": round(time.monotonic() - start, 2), **losses(Path(args.output_dir))}


def losses(folder) -> dict:
    """What metrics.jsonl of a run folder says, if anything was trained; all of it must be finite."""
    path = folder / "metrics.jsonl"
    logged = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )
    trained = [row["loss"] for row in logged if "loss" in row]
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in trained):
        raise RuntimeError(f"{path}: a loss is not finite: {trained}")
    return {"updates": len(trained), "first loss": trained[0], "last loss": trained[-1]} if trained else {}


def stages(settings, folder) -> list[tuple]:
    """[(what is said, script, flags)], in the order in which one stage needs another."""
    made = [*_of_tasks(settings, folder), *_of_text(settings, folder)]
    if has_datasets():
        made += _of_corpora(settings, folder)
    compared = ["--model_path", folder / "minidisc", folder / "tuned", "--num_repeats", 2]
    return [
        *made,
        ("evaluation", "run_evaluation", [*_task(settings), *compared, "--output_dir", folder / "table"]),
    ]


def has_datasets() -> bool:
    """Whether the datasets library is there, which built corpora need; the folder of that name in this
    repository is none."""
    found = importlib.util.find_spec("datasets")
    return found is not None and found.origin is not None


def _task(settings):
    return ["--task_name", "demo", "--data_dir", made_up.demo_data(settings)]


def _short(settings):
    return ["--per_device_train_batch_size", 16, "--max_steps", settings.pick(20, 10, 3), "--log_interval", 1]


def _of_tasks(settings, folder):
    task = _task(settings)
    trained = [*task, *_short(settings), "--learning_rate", 1e-3]
    tuned, nested, trial, half = (folder / name for name in ("tuned", "nested", "trial", "half"))
    cropped = ["--student_sparsity", 70]
    plans = [
        ("fine-tuning", "run_finetuning", "tuned", trained),
        ("sparsification", "run_sparsification", "nested", [*task, "--model_path", tuned]),
        ("distillation, 90S", "run_distillation", "90S", [*trained, "--teacher_model_path", nested]),
        ("distillation, 2 layers", "run_distillation", "half", [*trained, "--teacher_model_path", tuned]),
        ("MaxiDisc", "run_maxidisc", "maxidisc", [*trained, "--teacher_model_path", nested]),
        ("MiniDisc", "run_minidisc", "minidisc", [*trained, "--teacher_model_path", nested]),
        ("StarK, trial", "run_distillation", "trial", [*trained, "--teacher_model_path", tuned, *cropped]),
        ("StarK", "run_stark", "stark", [*trained, "--teacher_model_path", tuned, *cropped]),
        ("TED, teacher's filters", "run_ted", "tuned_filters", [*trained, "--model_path", tuned]),
        ("TED, student's filters", "run_ted", "half_filters", [*trained, "--model_path", half]),
        ("TED", "run_ted", "ted", [*trained, "--teacher_model_path", folder / "tuned_filters"]),
    ]
    more = {
        "90S": ["--layer_or_sparsity", "90S", "--cache_teacher"],
        "half": ["--layer_or_sparsity", "2L"],
        "maxidisc": ["--layer_or_sparsity_path", "80,90S", "--hops_dir", folder / "hops"],
        "trial": ["--student_model_path", nested, "--model_type", "kdbert_cls", "--temperature", 2],
        "stark": [
            "--student_model_path",
            trial,
            "--do_rewind",
            "--student_init_path",
            nested,
            "--teacher_sparsities",
            10,
        ],
        "tuned_filters": ["--mode", "filters", "--filter_interval", 2],
        "half_filters": ["--mode", "filters"],
        "ted": [
            "--mode",
            "ted",
            "--student_model_path",
            folder / "half_filters",
            "--kl_alpha",
            1,
            "--mse_alpha",
            1,
        ],
    }
    return [
        (stage, script, [*words, *more.get(name, []), "--output_dir", folder / name])
        for stage, script, name, words in plans
    ]


def _of_text(settings, folder):
    """Straight from a text file, which needs no library."""
    words = [*made_up.student_of_text(settings), "--num_heldout_blocks", 32, *_short(settings)]
    tuned = [*_task(settings), *_short(settings), "--model_path", folder / "minimoe"]
    return [
        ("MiniLMv2", "run_minilmv2", [*words, "--output_dir", folder / "minilmv2"]),
        ("MiniMoE", "run_minimoe", [*words, "--moe", "1,4", "--output_dir", folder / "minimoe"]),
        ("fine-tuning, experts", "run_finetuning", [*tuned, "--output_dir", folder / "tuned_experts"]),
    ]


def _of_corpora(settings, folder):
    pretrained, corpus, ordered = made_up.pretrained_demo(settings), folder / "corpus", folder / "sorted"
    text = ["--input", made_up.demo_corpus(settings), "--max_seq_length", 32, "--num_workers", 1]
    heldout = ["--corpus", corpus, "--num_heldout_blocks", 32]
    scored = ["--task_name", "corpus", "--model_path", pretrained, "--num_scoring_samples", 64]
    crop = ["--teacher_model_path", ordered, "--sparsity", 80]
    parts = ["--teacher_model_path", pretrained, "--ofa_layer", "2,1", "--ofa_hidden", "48,24", "--heads", 4]
    return [
        ("corpus", "run_corpus", [*text, "--tokenizer_name_or_path", pretrained, "--output_dir", corpus]),
        ("sparsification, corpus", "run_sparsification", [*scored, *heldout, "--output_dir", ordered]),
        (
            "sparse MiniLM",
            "run_minilmv2",
            [*crop, *heldout, *_short(settings), "--output_dir", folder / "sparse_minilm"],
        ),
        (
            "once for all",
            "run_minilmv2",
            [
                *parts,
                "--num_relation_heads",
                4,
                *heldout,
                *_short(settings),
                "--output_dir",
                folder / "parts",
            ],
        ),
    ]
