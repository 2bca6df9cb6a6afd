"""Flags of a task of the user's own: its files, or what describes it.  Nothing here imports torch.

resolve() makes it a task like others: args.task_name is its name then, and args.own_task its description.
"""

import difflib
from pathlib import Path

from utils import checkpoints
from utils.errors import UserError
from utils.files import absolute

_FILES = {"train_file": "train", "validation_file": "dev", "test_file": "test"}
_OTHERS = ("text_columns", "label_column", "task_kind", "dataset_name", "dataset_config_name")
_CHECKPOINTS = ("model_path", "teacher_model_path", "student_model_path")


def own_task(parser, tasks, *, others=(), required=True, unless=None, of_checkpoint=True):
    """Declare --task_name and the flag group of a task of the user's own.

    tasks: data.tasks.  others: further values of --task_name, which are no tasks.  required: a task must be
    named, or a checkpoint know its own; unless: not with this flag.  of_checkpoint: no name means the one
    that a checkpoint knows.
    """
    options = {"others": others, "required": required, "unless": unless, "implied": of_checkpoint}
    parser.own_task = {"tasks": tasks, **options}
    default = " (default: your own task that the checkpoint was trained on)"
    add = parser.add_argument_group("task").add_argument
    add(
        "--task_name",
        metavar="NAME",
        help=f"{', '.join((*tasks.NAMES, *others))}, in upper or lower case; or the task file (JSON) of a "
        f"task of your own, or its folder{default if of_checkpoint else ''}",
    )
    add = parser.add_argument_group("a task of your own, without a task file").add_argument
    form = "TSV, CSV, JSON lines, Parquet, or CoNLL columns; also as .gz, .zst, .zip"
    add("--train_file", metavar="FILE", help=f"rows to train on: {form}")
    add("--validation_file", metavar="FILE", help="rows that choose checkpoints, and are scored as dev")
    add("--test_file", metavar="FILE", help="rows for --do_test and --do_infer")
    add("--dataset_name", metavar="NAME", help="a data set of the Hub, or its folder, instead of files")
    add("--dataset_config_name", metavar="NAME", help="which configuration of it")
    add(
        "--text_columns",
        metavar="A[,B]",
        help="column of the text, or the two of a pair (default: recognised by their names)",
    )
    add(
        "--label_column",
        metavar="NAME",
        help="column of the label, or several, separated by commas, with a 0 or 1 for one label each",
    )
    add(
        "--task_kind",
        choices=tasks.KINDS,
        help="kind of the labels (default: recognised from them, where possible)",
    )


def resolve(args, parser):
    """Yield what is wrong; make a task of the user's own one of the registry, and args.task_name its name."""
    if parser.own_task is None:
        return
    tasks, others = parser.own_task["tasks"], parser.own_task["others"]
    given = {name: vars(args).pop(name) for name in (*_FILES, *_OTHERS)}
    # What is wrong with an empty path is said beside
    given = {flag: value for flag, value in given.items() if value or (value == "" and flag not in _FILES)}
    if args.task_name is not None and tasks.spelled(args.task_name) in tasks.NAMES:
        args.task_name = tasks.spelled(args.task_name)
    name = args.task_name
    if name in (*tasks.NAMES, *others):
        yield from (f"--{flag}: has no meaning with --task_name {name}, a built-in task" for flag in given)
        return
    stored = _stored(args, name) if name or given or parser.own_task["implied"] else None
    try:
        if given:
            if name is not None and (stored is None or "train_file" in given):
                yield f"--task_name {name}: found --{next(iter(given))} beside it; expected one of the two"
                return
            description = _described(given, stored, tasks)
            task = tasks.add(description)
        elif name is not None and (Path(name).is_dir() or Path(name).suffix == ".json"):
            task = tasks.add(name)
        elif stored is not None:
            task = tasks.add(stored, resolved=True)
        elif name is not None:
            yield from _missing_checkpoints(args) or [_unknown(name, (*tasks.NAMES, *others))]
            return
        else:
            if parser.own_task["required"] and not getattr(args, parser.own_task["unless"] or "", None):
                yield from _missing_checkpoints(args) or [
                    "--task_name (or --train_file and --validation_file, or --dataset_name): required"
                ]
            return
    except UserError as error:
        yield str(error)
        args.task_name = None
        return
    args.task_name, args.own_task = task.name, task.own


def _described(given, stored, tasks) -> dict:
    """The description that the flags give.  stored: of a checkpoint, which they change."""
    files = {split: absolute(given[flag]) for flag, split in _FILES.items() if flag in given}
    if "dataset_name" in given:
        description = tasks.of_dataset(given["dataset_name"], given.get("dataset_config_name"))
    elif "train_file" in given or stored is None:
        description = {"name": Path(next(iter(files.values()), "task")).name.partition(".")[0], "files": {}}
    else:
        description = {**stored, "files": dict(stored.get("files", {}))}
    if description["name"] in tasks.NAMES:  # rows of one's own under a built-in task's name
        description["name"] += "_own"
    description["files"] |= files
    for flag, key in (("text_columns", "text"), ("label_column", "label")):
        if flag in given:
            description[key] = [part.strip() for part in given[flag].split(",")]
    if "task_kind" in given:
        description["kind"] = given["task_kind"]
    return description


def _stored(args, name) -> dict | None:
    """The description that one of the checkpoints knows, of that name; with any for None."""
    for _, path in _given_checkpoints(args):
        found = checkpoints.own_task(path)
        if found is not None and name in (None, found["name"]):
            return found
    return None


def _missing_checkpoints(args) -> list[str]:
    """What is wrong with the checkpoints that may know a task, but are not there."""
    wrong = []
    for flag, path in _given_checkpoints(args):
        try:
            checkpoints.folder_of(path)
        except UserError as error:
            wrong.append(f"--{flag}: {error}")
    return wrong


def _given_checkpoints(args):
    """Yield (flag, path) of the checkpoints that may know a task."""
    for flag in _CHECKPOINTS:
        values = getattr(args, flag, None)
        for path in values if isinstance(values, list) else [values]:
            if path is not None:
                yield flag, path


def _unknown(name, names):
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    meant = f"; is {near[0]} meant?" if near else "; a task of your own is named by its task file"
    return f"--task_name: {name!r} is not one of {', '.join(names)}{meant}"
