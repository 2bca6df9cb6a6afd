"""Model cards: README.md of a checkpoint, written from what the run knows."""

import shlex
from pathlib import Path

from utils import logs
from utils.families import stock_type

METHODS = {
    "finetuning": "fine-tuning of all weights",
    "sparsification": "heads and neurons sorted by importance, a grid of nested sub-networks "
    "(MiniDisc, Zhang et al. 2024)",
    "distillation": "distillation from one teacher (Hinton et al. 2015; of patient knowledge: "
    "Sun et al. 2019)",
    "maxidisc": "distillation through a given path of teacher assistants "
    "(MiniDisc's MaxiDisc, Zhang et al. 2024)",
    "minidisc": "distillation through an assistant that one run chooses (MiniDisc, Zhang et al. 2024)",
    "stark": "distillation from a teacher sparsified for its student (StarK, Yang et al. 2022)",
    "minilmv2": "relation distillation on a text corpus (MiniLMv2, Wang et al. 2021)",
    "minimoe": "relation distillation into a mixture of minimal experts (MiniMoE, Zhang et al. 2023)",
    "ted": "layer-wise distillation through task-aware filters (TED, Liang et al. 2023)",
    "vocabulary": "a smaller vocabulary: the pieces that text needs most, and what it can be spelled with",
    "evaluation": "an export of the model named below; nothing was trained",
}
_MODELS = ("model_path", "teacher_model_path", "student_model_path", "student_init_path")
_SIZES = ("parameters", "encoder_parameters", "macs", "sparsity", "experts")


def card(provenance: dict, results: dict, config: dict, *, folder="ckpt", loading=None) -> str:
    """The card's text.

    provenance: args.json of the run.  results: results.json.  config: config.json of the checkpoint.
    folder: what the checkpoint's folder is called.  loading: lines of Python that load it; those of the Auto
    classes.
    """
    task, stage = results.get("task"), provenance["stage"]
    lines = [
        "---",
        "library_name: transformers",
        "license: other  # that of the weights and data that it was made from",
        *(["datasets:", f"- {task}"] if task else []),
        "---",
        f"# {' '.join(word for word in (stage, task) if word)}",
        "",
        f"A {config['model_type']} encoder written by `run_{stage}.py`.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in _rows(provenance, results, config)),
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
        *(loading or _auto_classes(config, folder)),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _rows(provenance, results, config):
    """Yield (name, value) of the table."""
    settings = provenance["settings"]
    yield "method", METHODS.get(provenance["stage"], provenance["stage"])
    if results.get("task"):
        labels = ", ".join(config.get("id2label", {}).values())
        yield (
            "task",
            results["task"] + (f" (labels: {labels})" if labels and not labels.startswith("LABEL_") else ""),
        )
    inputs = provenance.get("inputs", {})
    data = [
        f"{name.removeprefix('data/')} (sha256 {inputs[name][:12]})"
        for name in inputs
        if name.startswith("data/")
    ]
    if data:
        yield "data", ", ".join(data)
    for flag in _MODELS:
        if value := settings.get(flag):
            named = ", ".join(f"`{_public(path)}`" for path in ([value] if isinstance(value, str) else value))
            yield flag.removesuffix("_path").replace("_", " "), named
    for split, values in results["metrics"].items():
        yield split, ", ".join(f"{name} {logs.number(value)}" for name, value in values.items())
    for key in _SIZES:
        if key in results.get("model", {}):
            value = results["model"][key]
            yield key.replace("_", " "), value if isinstance(value, str) else f"{value:,}"
    if settings.get("corpus"):
        corpus = ", ".join(f"`{_public(path)}`" for path in settings["corpus"])
        if "vocabulary_size" in settings:
            yield "counted in", corpus
        elif "num_steps" in results:
            yield "trained on", f"{corpus}, {results['num_steps']} updates"
        else:
            yield "scored on", f"{corpus}, {settings['num_scoring_samples']} blocks"
    elif "num_train_epochs" in settings:
        yield "trained on", f"{settings['max_train_samples'] or 'all'} rows of train"
    if settings.get("max_eval_samples"):
        yield "scored on", f"{settings['max_eval_samples']} rows of {settings.get('split', 'dev')}"
    shown = [f"{key} {_shown(value)}" for key, value in settings.items() if _is_setting(key, value)]
    yield "settings", ", ".join(shown) or "as in the command"
    yield "seed, precision", f"{settings['seed']}, {settings['precision']}"
    starts = [provenance, *provenance.get("resumed", ())]
    yield (
        "versions",
        "; then ".join(", ".join(f"{name} {value}" for name, value in s["versions"].items()) for s in starts),
    )
    yield "commit", "; then ".join(str(start["git_commit"]) for start in starts)


def _is_setting(key, value):
    shown_elsewhere = (
        key.endswith("_path") or key.endswith("_dir") or key in ("corpus", "seed", "precision", "task_name")
    )
    return value is not None and value is not False and not shown_elsewhere


def _shown(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _auto_classes(config, folder):
    """The three lines, or two of a stock model, that load a checkpoint."""
    head = (config.get("architectures") or ["AutoModel"])[0].partition("For")[2]
    auto = f"AutoModelFor{head}" if head else "AutoModel"
    stock = config["model_type"] == stock_type(config["model_type"])
    return [
        *([] if stock else ["import models  # this repository: the Auto classes know its structures then"]),
        f"from transformers import {auto}, AutoTokenizer",
        f'model, tokenizer = {auto}.from_pretrained("{folder}"), AutoTokenizer.from_pretrained("{folder}")',
    ]


def _public(word: str) -> str:
    """A word of a command without the folders of somebody's machine."""
    return Path(word).name if Path(word).is_absolute() else word
