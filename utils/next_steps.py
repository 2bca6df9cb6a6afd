"""What a run says at its end: its pictures, and the command that usually comes next."""

import shlex

from utils import checkpoints, families

# Stage: (script, flag that takes the run folder, other flags that go with it)
_NEXT = {
    "finetuning": ("run_sparsification.py", "--model_path", []),
    "sparsification": ("run_minidisc.py", "--teacher_model_path", ["--target_sparsity", "{target}"]),
    "corpus": ("run_minilmv2.py", "--corpus", ["--teacher_model_path", "{tokenizer_name_or_path}"]),
    "vocabulary": ("run_finetuning.py", "--model_path", []),
    "minilmv2": ("run_finetuning.py", "--model_path", ["--task_name", "mrpc"]),
    "minimoe": ("run_finetuning.py", "--model_path", ["--task_name", "mrpc"]),
    **dict.fromkeys(
        ("distillation", "maxidisc", "minidisc", "stark", "ted"),
        ("run_evaluation.py", "--model_path", ["--teacher_model_path", "{teacher_model_path}", "--compare"]),
    ),
}


def pictures(folder) -> list[str]:
    """The pictures in a run folder; beside each lies the same as SVG."""
    return sorted(str(path) for path in folder.glob("*.png"))


def command(args) -> str | None:
    """The command that usually comes after a stage, or None.  args: of a run that has finished."""
    task = getattr(args, "task_name", None)
    # Sorted on a corpus, sentences alone, filters of one side: several ways lead on
    several = task == "corpus" or getattr(args, "sentences_only", False)
    if args.stage not in _NEXT or several or getattr(args, "mode", None) == "filters":
        return None
    script, flag, more = _NEXT[args.stage]
    if args.stage == "stark" and not args.do_rewind:
        script, flag, more = "run_stark.py", "--teacher_model_path", ["--do_rewind", *_trial(args)]
    if args.stage == "finetuning" and families.has_experts(checkpoints.read_config(args.output_dir)):
        script, more = "run_evaluation.py", ["--export", "compact", "onnx"]  # nothing is removed from experts
    if args.stage == "ted" and args.mode == "ft":
        script, more = "run_ted.py", ["--mode", "filters"]
    if args.stage == "vocabulary" and args.trim_embeddings:
        script, more = "run_evaluation.py", ["--teacher_model_path", "{model_path}", "--compare"]
    elif args.stage == "vocabulary" and task is None:
        more = ["--task_name", "mrpc"]
    words = ["python", script, flag, str(args.output_dir)]
    if task is not None:
        words += ["--task_name", str(task)]
        words += ["--data_dir", args.data_dir] if args.data_dir != "datasets" else []
    grid = getattr(args, "grid", None) or [90]
    known = {**vars(args), "target": 90 if 90 in grid else max(grid)}
    return shlex.join([*words, *(word.format_map(known) for word in more)])


def _trial(args) -> list[str]:
    """The flags that say what the trial student of run_stark.py began as, as its own run has them."""
    trial, words = checkpoints.settings_of(args.student_model_path), []
    if start := trial.get("student_model_path") or trial.get("teacher_model_path"):
        words += ["--student_init_path", str(start)]
    whole = str(trial.get("layer_or_sparsity") or "")
    parts = {"L": trial.get("student_layer"), "S": trial.get("student_sparsity")}
    parts[whole[-1:]] = whole[:-1] or parts.get(whole[-1:])
    for unit, flag in (("L", "--student_layer"), ("S", "--student_sparsity")):
        words += [flag, f"{float(parts[unit]):g}"] if parts[unit] is not None else []
    return words
