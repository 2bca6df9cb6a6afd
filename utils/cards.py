"""Model cards: README.md of a checkpoint, written from what the run knows."""

import shlex
from pathlib import Path, PurePath
from typing import NamedTuple

from utils import card_snippets, config_values, families, logs

METHODS = {
    "finetuning": "fine-tuning of all weights",
    "sparsification": "heads and neurons sorted by importance, a grid of nested sub-networks "
    "(MiniDisc, Zhang et al. 2024)",
    "maxidisc": "distillation through a given path of teacher assistants "
    "(MiniDisc's MaxiDisc, Zhang et al. 2024)",
    "minidisc": "distillation through an assistant that one run chooses (MiniDisc, Zhang et al. 2024)",
    "stark": "distillation from a teacher sparsified for its student (StarK, Yang et al. 2022)",
    "sparse teacher": "a teacher's heads and neurons sorted by what they do for the task and for its "
    "student, a grid of nested sub-networks (StarK, Yang et al. 2022); nothing was trained",
    "minilmv2": "relation distillation on a text corpus (MiniLMv2, Wang et al. 2021)",
    "minimoe": "relation distillation into a mixture of minimal experts (MiniMoE, Zhang et al. 2023)",
    "ted": "layer-wise distillation through task-aware filters (TED, Liang et al. 2023)",
    "lwd": "layer-wise distillation without filters, a baseline of TED (Liang et al. 2023)",
    "kd": "distillation from one teacher's logits, a baseline of TED (Liang et al. 2023)",
    "ft": "fine-tuning of all weights, a baseline of TED (Liang et al. 2023)",
    "filters": "the model named below as it is; task-aware filters for its layers, the first stage of "
    "layer-wise distillation, lie beside it (TED, Liang et al. 2023)",
    "vocabulary": "a smaller vocabulary: the pieces that text needs most, and what it can be spelled with",
    "evaluation": "an export of the model named below; nothing was trained",
}
LEARNT = {  # in run_distillation.py; the objectives that --model_type begins with
    "sparse": "distillation from one teacher: hidden states and soft labels (MiniDisc, Zhang et al. 2024)",
    "kd": "distillation from one teacher: soft labels, beside the gold ones (Hinton et al. 2015)",
    "pkd": "distillation from one teacher: hidden states and soft labels, beside the gold ones (patient "
    "knowledge distillation, Sun et al. 2019)",
    "ft": "a part of a larger model, or a student of its own, fine-tuned on gold labels alone",
}
METRICS = {  # their names on the hub, where those differ
    "acc": "accuracy",
    "matthews_corrcoef": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "exact": "exact_match",
    "macro_f1": "f1",
    "micro_f1": "f1",
}


class Dataset(NamedTuple):
    """A task's data on the hub: owner/name, its part; and whether a row has two texts.  All are English."""

    name: str
    part: str | None = None
    pair: bool = True


DATASETS = {
    **{
        task: Dataset("nyu-mll/glue", task) for task in ("mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
    },
    **{task: Dataset("nyu-mll/glue", task, pair=False) for task in ("cola", "sst2")},
    "mnlimm": Dataset("nyu-mll/glue", "mnli"),
    "conll": Dataset("eriktks/conll2003", pair=False),
    "squad2": Dataset("rajpurkar/squad_v2"),
}
_MODELS = ("model_path", "teacher_model_path", "student_model_path", "student_init_path")
_SIZES = ("parameters", "embedding_parameters", "encoder_parameters", "macs", "sparsity", "experts")


def card(provenance: dict, results: dict, config: dict, *, read=(), graph=None, disabled=()) -> str:
    """The card's text.

    provenance: args.json of the run.  results: results.json; of several graphs also "metrics_of": {file: its
    metrics}.  config: config.json of the checkpoint.
    read: names of the data files that were read, of all in provenance.  graph, disabled: of an ONNX export,
    see card_snippets.snippet().
    """
    task, stage, settings = results.get("task"), provenance["stage"], provenance["settings"]
    before = provenance.get("before") or ()
    own = config.get(config_values.OWN_TASK)
    lines = card_snippets.snippet(
        config,
        max_length=settings.get("max_length") or settings.get("max_seq_length") or 128,
        pair=len(own.get("text", ())) > 1 if own else _has_pairs(task),
        graph=graph,
        disabled=disabled,
    )
    return "\n".join(
        [
            "---",
            _metadata(
                provenance, results, config, library="transformers" if graph is None else "transformers.js"
            ),
            "---",
            "",
            f"# {_title(provenance, results)}",
            "",
            f"A {config['model_type']} encoder written by `run_{stage}.py`. Licence: that of the weights and "
            "data that it was made from.",
            *(f"\n{note}" for note in results.get("notes", ())),
            "",
            "```python",
            *lines,
            "```",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in _rows(provenance, results, config, read)),
            "",
            "Made by" if not before else "Made by, one stage after the other,",
            "",
            "```bash",
            *(_command(each) for each in [*before, provenance]),
            "```",
            "",
        ]
    )


def _has_pairs(task):
    return task == "demo" or (task in DATASETS and DATASETS[task].pair)


def _stage(provenance, results):
    """What made the checkpoint: StarK's sparse teacher and TED's modes each have a name of their own."""
    stage, settings = results.get("stage", provenance["stage"]), provenance["settings"]
    if stage == "stark" and not settings.get("do_rewind"):
        return "sparse teacher"
    return settings.get("mode", stage) if stage == "ted" else stage


def _method(provenance, results):
    stage, settings = _stage(provenance, results), provenance["settings"]
    if stage == "distillation":
        model_type = settings.get("model_type") or "sparse"
        return next((said for name, said in LEARNT.items() if model_type.startswith(name)), stage)
    return METHODS.get(stage) or METHODS.get(provenance["stage"], provenance["stage"])


def _metrics(provenance, results):
    """[(file, split, {name: value})] of the model; file: None, or of several graphs the one that was scored.
    Beside filters they are not the run's metrics, which are those of the filters' heads."""
    own = results["model_metrics" if _stage(provenance, results) == "filters" else "metrics"]
    files = results.get("metrics_of", {None: own})
    return [(file, split, values) for file, found in files.items() for split, values in found.items()]


def _title(provenance, results):
    return " ".join(word for word in (_stage(provenance, results), results.get("task")) if word)


def _metadata(provenance, results, config, *, library):
    """The hub's metadata, in YAML.  What is not known is left out: a base model that is not on the hub, the
    language of a user's own task."""
    from huggingface_hub import ModelCardData

    dataset = DATASETS.get(results.get("task"))
    return ModelCardData(
        language="en" if dataset or results.get("task") == "demo" else None,
        license="other",
        library_name=library,
        base_model=provenance.get("base_models") or None,
        pipeline_tag=card_snippets.PIPELINE_TAGS.get(families.head_of(config), "feature-extraction"),
        datasets=[dataset.name] if dataset else None,
        model_name=_title(provenance, results),
        eval_results=[*_scores(provenance, results, config)] or None,
    ).to_yaml()


def _scores(provenance, results, config):
    """Yield the metrics of the model-index: of a task, by split."""
    from huggingface_hub import EvalResult

    task, rows = results.get("task"), provenance["settings"].get("max_eval_samples")
    if task is None or task == "corpus":
        return
    dataset = DATASETS.get(task)
    for file, split, values in _metrics(provenance, results):
        for name, value in values.items():
            yield EvalResult(
                task_type=card_snippets.PIPELINE_TAGS.get(families.head_of(config), "feature-extraction"),
                dataset_type=dataset.name if dataset else task,
                dataset_name=task,
                dataset_config=dataset and dataset.part,
                dataset_split=split.replace("dev", "validation") if dataset else split,
                dataset_args={"rows": rows} if rows else None,
                metric_type=METRICS.get(name, name),
                metric_name=f"{name} of {file}" if file else name,
                metric_value=value,
            )


def _rows(provenance, results, config, read):
    """Yield (name, value) of the table."""
    settings, stage = provenance["settings"], _stage(provenance, results)
    yield "method", _method(provenance, results)
    if results.get("task"):
        labels = ", ".join(config.get("id2label", {}).values())
        yield (
            "task",
            results["task"] + (f" (labels: {labels})" if labels and not labels.startswith("LABEL_") else ""),
        )
    inputs = provenance.get("inputs", {})
    files = [name for name in inputs if name.startswith(("data/", "test/")) and PurePath(name).name in read]
    data = [f"{name.partition('/')[2]} (sha256 {inputs[name][:12]})" for name in files]
    if data:
        yield "data", ", ".join(data)
    for flag in _MODELS:
        if value := settings.get(flag):
            named = ", ".join(f"`{_public(path)}`" for path in ([value] if isinstance(value, str) else value))
            yield flag.removesuffix("_path").replace("_", " "), named
    for file, split, values in _metrics(provenance, results):
        yield (
            f"{split}, `{file}`" if file else split,
            ", ".join(f"{name} {logs.number(value)}" for name, value in values.items()),
        )
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
            yield "scored on", f"{corpus}, {settings.get('num_scoring_samples')} blocks"
    elif "num_train_epochs" in settings and stage != "sparse teacher":
        yield "filters trained on" if stage == "filters" else "trained on", _trained_on(settings, results)
    if settings.get("max_eval_samples"):
        yield "scored on", f"{settings['max_eval_samples']} rows of {settings.get('split', 'dev')}"
    shown = [f"{key} {_shown(value)}" for key, value in settings.items() if _is_setting(key, value)]
    yield "settings", ", ".join(shown) or "as in the command"
    yield "seed, precision", f"{settings.get('seed')}, {settings.get('precision')}"
    starts = [provenance, *provenance.get("resumed", ())]
    yield (
        "versions",
        "; then ".join(", ".join(f"{name} {value}" for name, value in s["versions"].items()) for s in starts),
    )
    yield "commit", "; then ".join(str(start["git_commit"]) for start in starts)


def _trained_on(settings, results):
    """Which rows of a task were trained on."""
    most, share = settings.get("max_train_samples"), settings.get("hold_out")
    there = results.get("data", {}).get("train", most)  # fewer than most, where there are no more
    named = ["train"] if not settings.get("unlabelled_only") else []
    named += [f"`{_public(path)}`" for path in settings.get("unlabelled_file") or ()]
    said = f"{min(most, there) if most else 'all'} rows of {' and '.join(named)}"
    if not share:
        return said
    share = f"share of {share:g} held out"
    return f"{said}, none of the {share}" if most else f"{said} but a {share}"


def _is_setting(key, value):
    shown_elsewhere = (
        key.endswith("_path")
        or key.endswith("_dir")
        or key in ("corpus", "seed", "precision", "task_name", "own_task")
    )
    return value is not None and value is not False and not shown_elsewhere


def _shown(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _command(made_by):
    """A line of a shell.  made_by: has "command"."""
    line = "python " + shlex.join(_public(word) for word in made_by["command"])
    local = dict.fromkeys(_public(word) for word in made_by["command"][1:] if Path(word).is_absolute())
    return f"{line}  # local files or folders: {', '.join(local)}" if local else line


def _public(word: str) -> str:
    """A word of a command without the folders of somebody's machine."""
    path = Path(word)
    if not path.is_absolute():
        return word
    return f"{path.parent.name}/ckpt" if path.name == "ckpt" else path.name
