"""Model cards: README.md of a checkpoint, written from what the run knows."""

import shlex
from pathlib import Path

from utils import logs
from utils.checkpoints import stock_type


def card(args, provenance: dict, results: dict, config: dict) -> str:
    """The card's text.

    args: resolved flags.  provenance: args.json of the run.  results: results.json.  config: config.json of the checkpoint.
    """
    task, stock = results.get("task"), config["model_type"] == stock_type(config["model_type"])
    title = " ".join(word for word in (args.stage, task) if word)
    head = (config.get("architectures") or ["AutoModel"])[0].partition("For")[2]
    auto = f"AutoModelFor{head}" if head else "AutoModel"
    imports = [] if stock else ["import models  # this repository: the Auto classes know its structures then"]
    lines = [
        "---",
        "library_name: transformers",
        "license: other  # that of the weights and data that it was made from",
        *(["datasets:", f"- {task}"] if task else []),
        "---",
        f"# {title}",
        "",
        f"A {config['model_type']} encoder written by `run_{args.stage}.py`.",
        "",
        "| | |",
        "| --- | --- |",
    ]
    for flag in ("model_path", "teacher_model_path", "student_model_path"):
        if getattr(args, flag, None):
            lines.append(f"| {flag.removesuffix('_path').replace('_', ' ')} | `{_public(getattr(args, flag))}` |")
    for split, values in results["metrics"].items():
        lines.append(f"| {split} | {', '.join(f'{name} {logs.number(value)}' for name, value in values.items())} |")
    size = results.get("model", {})
    for key in ("parameters", "encoder_parameters", "macs", "sparsity"):
        if key in size:
            lines.append(f"| {key.replace('_', ' ')} | {size[key]:,} |")
    if hasattr(args, "corpus"):
        corpus = ", ".join(f"`{_public(path)}`" for path in args.corpus)
        lines.append(f"| trained on | {corpus}, {results['num_steps']} updates |")
    elif hasattr(args, "num_train_epochs"):
        lines.append(f"| trained on | {args.max_train_samples or 'all'} rows of train |")
        lines += [f"| scored on | {args.max_eval_samples} rows of dev |"] if args.max_eval_samples else []
    lines += [
        f"| seed, precision | {args.seed}, {args.precision} |",
        f"| versions | {', '.join(f'{name} {version}' for name, version in provenance['versions'].items())} |",
        f"| commit | {provenance['git_commit']} |",
        *(f"\n{note}" for note in results.get("notes", ())),
        "",
        "Made by",
        "",
        "```bash",
        "python " + shlex.join(_public(word) for word in provenance["command"]),
        "```",
        "",
        "Load it",
        "",
        "```python",
        *imports,
        f"from transformers import {auto}, AutoTokenizer",
        f'model, tokenizer = {auto}.from_pretrained("ckpt"), AutoTokenizer.from_pretrained("ckpt")',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _public(word: str) -> str:
    """A word of a command without the folders of somebody's machine."""
    return Path(word).name if Path(word).is_absolute() else word
