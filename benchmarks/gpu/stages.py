"""Section "stages": every script for a few updates in each precision of 16 bits, each stage from what the ones before it wrote.

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


def run(script, words, precision, settings) -> dict:
    """Seconds, updates, first and last loss, the metric that selects."""
    start = time.monotonic()
    words = [*words, *(["--use_cpu"] if settings.device == "cpu" else []), "--precision", precision]
    if script == "run_corpus":
        words = words[: words.index("--output_dir") + 2]
    module = importlib.import_module(script)
    folder = module.main(args := module.parse([str(word) for word in words]))
    if folder is None:
        raise RuntimeError(f"{script}: returned no checkpoint")
    return {"seconds": round(time.monotonic() - start, 2), **losses(args.output_dir)}


def losses(folder) -> dict:
    """What metrics.jsonl of a run folder says, if anything was trained; all of it must be finite."""
    path = Path(folder, "metrics.jsonl")
    logged = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    trained = [row["loss"] for row in logged if "loss" in row]
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in trained):
        raise RuntimeError(f"{path}: a loss is not finite")
    return {"updates": len(trained), "first loss": trained[0], "last loss": trained[-1]} if trained else {}


def stages(settings, folder):
    """[(what is said, script, flags)], in the order in which one stage needs another."""
    task = ["--task_name", "demo", "--data_dir", made_up.demo_data(settings)]
    short = ["--per_device_train_batch_size", 16, "--max_steps", settings.pick(20, 10, 3), "--log_interval", 1]
    fast = [*short, "--learning_rate", 1e-3]
    tuned, nested, half, trial = (folder / name for name in ("tuned", "nested", "half", "trial"))
    pretrained, text, corpus, sorted_ = (
        made_up.pretrained_demo(settings),
        made_up.demo_corpus(settings),
        folder / "corpus",
        folder / "sorted",
    )
    heldout = ["--num_heldout_blocks", 32]
    relations = ["--teacher_model_path", pretrained, *heldout, *short]

    def to(name):
        return ["--output_dir", folder / name]

    made = [
        ("fine-tuning", "run_finetuning", [*task, *fast, *to("tuned")]),
        ("sparsification", "run_sparsification", [*task, "--model_path", tuned, *to("nested")]),
        ("distillation, 90S", "run_distillation", [*task, *fast, "--teacher_model_path", nested, "--layer_or_sparsity", "90S",
                                                   "--cache_teacher", *to("90S")]),
        ("distillation, 2 layers", "run_distillation", [*task, *fast, "--teacher_model_path", tuned, "--layer_or_sparsity", "2L", *to("half")]),
        ("MaxiDisc", "run_maxidisc", [*task, *fast, "--teacher_model_path", nested, "--layer_or_sparsity_path", "80,90S",
                                      "--hops_dir", folder / "hops", *to("maxidisc")]),
        ("MiniDisc", "run_minidisc", [*task, *fast, "--teacher_model_path", nested, *to("minidisc")]),
        ("StarK, trial", "run_distillation", [*task, *fast, "--teacher_model_path", tuned, "--student_model_path", nested,
                                              "--student_sparsity", 70, "--model_type", "kdbert_cls", "--temperature", 2, *to("trial")]),
        ("StarK", "run_stark", [*task, *fast, "--teacher_model_path", tuned, "--student_model_path", trial, "--do_rewind",
                                "--student_init_path", nested, "--student_sparsity", 70, "--teacher_sparsities", "10", *to("stark")]),
        ("TED, teacher's filters", "run_ted", [*task, *fast, "--mode", "filters", "--model_path", tuned, "--filter_interval", 2,
                                               *to("tuned_filters")]),
        ("TED, student's filters", "run_ted", [*task, *fast, "--mode", "filters", "--model_path", half, *to("half_filters")]),
        ("TED", "run_ted", [*task, *fast, "--mode", "ted", "--teacher_model_path", folder / "tuned_filters", "--student_model_path",
                            folder / "half_filters", "--kl_alpha", 1, "--mse_alpha", 1, *to("ted")]),
        ("MiniLMv2, text", "run_minilmv2", [*relations, *made_up.STUDENT, "--corpus", text, "--streaming", "--max_length", 32,
                                            *to("minilmv2")]),
        ("MiniMoE, text", "run_minimoe", [*relations, *made_up.STUDENT, "--corpus", text, "--streaming", "--max_length", 32,
                                          "--moe", "1,4", *to("minimoe")]),
        ("fine-tuning with experts", "run_finetuning", [*task, *fast, "--model_path", folder / "minimoe", *to("tuned_experts")]),
    ]  # fmt: skip
    if has_datasets():
        made += [
            ("corpus", "run_corpus", ["--input", text, "--tokenizer_name_or_path", pretrained, "--max_seq_length", 32,
                                      "--num_workers", 1, *to("corpus")]),
            ("sparsification, corpus", "run_sparsification", ["--task_name", "corpus", "--corpus", corpus, "--model_path", pretrained,
                                                              *heldout, "--num_scoring_samples", 64, *to("sorted")]),
            ("sparse MiniLM", "run_minilmv2", [*short, "--corpus", corpus, *heldout, "--teacher_model_path", sorted_, "--sparsity", 80,
                                               *to("sparse_minilm")]),
            ("once for all", "run_minilmv2", [*relations, "--corpus", corpus, "--ofa_layer", "2,1", "--ofa_hidden", "48,24",
                                              "--heads", 4, "--num_relation_heads", 4, *to("once_for_all")]),
        ]  # fmt: skip
    made.append(
        ("evaluation", "run_evaluation", [*task, "--model_path", folder / "minidisc", tuned, "--num_repeats", 2, *to("table")])
    )
    return made


def has_datasets() -> bool:
    """Whether the datasets library is there; the folder of that name in this repository is none."""
    found = importlib.util.find_spec("datasets")
    return found is not None and found.origin is not None
