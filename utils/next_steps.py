"""What a run says at its end: its pictures, and the command that usually comes next."""

import shlex

# Stage: (script, flag that takes the run folder, other flags that go with it)
_NEXT = {
    "finetuning": ("run_sparsification.py", "--model_path", []),
    "sparsification": ("run_minidisc.py", "--teacher_model_path", ["--target_sparsity", "{target}"]),
    "corpus": ("run_minilmv2.py", "--corpus", ["--teacher_model_path", "{tokenizer_name_or_path}"]),
    "minilmv2": ("run_finetuning.py", "--model_path", ["--task_name", "mrpc"]),
    "minimoe": ("run_finetuning.py", "--model_path", ["--task_name", "mrpc"]),
    **dict.fromkeys(
        ("distillation", "maxidisc", "minidisc", "stark"),
        ("run_evaluation.py", "--model_path", ["--teacher_model_path", "{teacher_model_path}", "--compare"]),
    ),
}


def pictures(folder) -> list[str]:
    """The pictures in a run folder; beside each lies the same as SVG."""
    return sorted(str(path) for path in folder.glob("*.png"))


def command(args) -> str | None:
    """The command that usually comes after a stage, or None.  args: of a run that has finished."""
    task = getattr(args, "task_name", None)
    if args.stage not in _NEXT or task == "corpus":  # sorted on a corpus: several ways lead on
        return None
    script, flag, more = _NEXT[args.stage]
    words = ["python", script, flag, str(args.output_dir)]
    if task is not None:
        words += ["--task_name", str(task)]
        words += ["--data_dir", args.data_dir] if args.data_dir != "datasets" else []
    grid = getattr(args, "grid", None) or [90]
    known = {**vars(args), "target": 90 if 90 in grid else max(grid)}
    return shlex.join([*words, *(word.format_map(known) for word in more)])
