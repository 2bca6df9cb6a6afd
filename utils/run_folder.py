"""A run folder on the disk: how it is recognised and locked, whether a run may use it, how --overwrite
replaces its run.

    .run_folder            the marker: made before anything else, never replaced, locked as long as a process
                           works here
    args.json  log.txt ... what runs write; OWN lists all of it by stage.  Whatever else is there is the
                           user's and stays
    replaced-1/ ...        the run that --overwrite replaces, until the new one has a first state or a result

A run from before the marker is recognised by its args.json.
"""

import contextlib
import itertools
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

from utils import files, flags, logs, run_lock
from utils.errors import RunError

RECORD = "args.json"
TESTS = "test/"  # what the names of a run's test files begin with, among its inputs
_OF_TASK = "the task's "  # what is said of a task of the user's own
_CHECKPOINTS = ("ckpt", "assistant_*", "sparse_teacher", "student_*")
_OF_EVERY_STAGE = (
    RECORD,
    "log.txt",
    "metrics.jsonl",
    "results.json",
    "ckpt",
    "state",
    "predictions",
    "tensorboard",
)
OWN = {  # [ps]?g: pictures, as PNG and as SVG
    "sparsification": ("curve.[ps]?g",),
    "minidisc": ("tradeoff_*.[ps]?g", "assistant_*"),
    "maxidisc": ("trials.[ps]?g",),
    "stark": ("curve.[ps]?g", "rewinds.[ps]?g", "sparse_teacher"),
    "minilmv2": ("heldout*.[ps]?g", "assistant_*", "student_*"),
    "minimoe": ("heldout*.[ps]?g", "experts*.[ps]?g", "assistant_*"),
    "vocabulary": ("growth.[ps]?g",),
    "evaluation": ("table.csv", "costs.[ps]?g"),
    "corpus": ("corpus.json", "blocks-*.arrow", "sentences"),
}
# What is in those of the folders in which users may put something of their own: ckpt/notes.txt is not ours
_INSIDE = {
    **dict.fromkeys(
        _CHECKPOINTS,
        (
            *"config.json generation_config.json README.md filters.json filters.safetensors".split(),
            *"model.safetensors model-*-of-*.safetensors model.safetensors.index.json".split(),
            *"tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json".split(),
            *"vocab.txt vocab.json merges.txt bpe.codes spm.model spiece.model".split(),
            *"sentencepiece.bpe.model tokenizer.model chat_template.jinja".split(),
        ),
    ),
    "predictions": (
        *(f"{name}.tsv" for name in "CoLA SST-2 MRPC STS-B QQP MNLI-m MNLI-mm QNLI RTE WNLI AX".split()),
        *"*_test*.tsv *_dev*.tsv *_test*.txt *_dev*.txt *_predictions.json *_null_odds.json".split(),
    ),
}
_REPLACED = re.compile(r"replaced-(\d+)")
_ANOTHER, _AFRESH = "choose another", "--overwrite starts afresh"
# Which runs of earlier versions did not record
_NEWER_INPUTS = ("tokenizer/text to ids", "input/how files are read", "corpus/how files are read")


def is_own(name: str, stage: str | None = None) -> bool:
    """Whether a file or folder of this name in a run folder is what a run of this stage writes there; None:
    of any stage."""
    others = sum(OWN.values(), ()) if stage is None else OWN.get(stage, ())
    return any(fnmatchcase(name, pattern) for pattern in (*_OF_EVERY_STAGE, *others))


def own_names(folder) -> list[str]:
    """The names of what the run in a folder has written, args.json first."""
    stage = ""  # where args.json does not tell it, nothing is a run's that every run does not have
    with contextlib.suppress(RunError):
        stage = read_record(folder)["stage"]
    found = [entry.name for entry in Path(folder).iterdir() if is_own(entry.name, stage)]
    return sorted(found, key=lambda name: (name != RECORD, name))


# ---- What is there


def is_run(folder) -> bool:
    """Whether a folder is a run's, begun by this program: its marker, or args.json of a run from before the
    marker, says so."""
    folder = Path(folder)
    marker = folder / run_lock.MARKER
    return run_lock.is_marker(marker) if os.path.lexists(marker) else _is_record(folder / RECORD)


def status(folder, wanted: dict, *, overwrite: bool) -> tuple[str, str | None]:
    """("new", "unfinished" or "finished", and what forbids to use the folder, if anything).

    wanted: what args.json would hold.  A folder with an older run in it is "new" with overwrite: begin()
    replaces that run.
    """
    where = f"--output_dir {folder}"
    part = next(parent for parent in [folder, *folder.absolute().parents] if os.path.lexists(parent))
    if not part.is_dir():
        return (
            "new",
            f"{where}: {part} is {'a broken link' if part.is_symlink() else 'a file'}; expected a folder for "
            "the run",
        )
    reported = not overwrite and os.path.lexists(folder / "results.json")  # which needs no writing
    if not os.access(part, os.X_OK | (0 if reported else os.W_OK)):
        return "new", f"{where}: {part} cannot be written to; {_ANOTHER}"
    names = (
        {entry.name for entry in folder.iterdir() if not _is_left_over(entry.name)}
        if folder.is_dir()
        else set()
    )
    marked, recorded = run_lock.MARKER in names, RECORD in names
    if marked and not run_lock.is_marker(folder / run_lock.MARKER):
        return "new", f"{where}: its {run_lock.MARKER} was not written by this program; {_ANOTHER}"
    # Nothing, or what a kill left, also before there was a marker
    if names <= {run_lock.MARKER} or names == {f"{RECORD}.tmp"}:
        return "new", None
    if not marked and not (recorded and _is_record(folder / RECORD)):
        return (
            "new",
            f"{where}: not empty and not a run folder (no {RECORD} of this program in it); {_ANOTHER}",
        )
    if overwrite:
        return "new", next((f"{where}: {problem}" for problem in _foreign(folder)), None)
    if not recorded:
        lost = own_names(folder)
        return "new", f"{where}: has {', '.join(lost)}, but no {RECORD}; {_AFRESH}" if lost else None
    try:
        record = read_record(folder)
    except RunError as error:
        return "unfinished", f"{where}: {error}"
    found = "finished" if "results.json" in names else "unfinished"
    return found, _differences(where, record, wanted, finished=found == "finished")


def read_record(folder) -> dict:
    """args.json of a run.  Raises RunError where it is damaged."""
    none = type(None)
    keys = {
        "stage": str,
        "settings": dict,
        "inputs": dict,
        "processes": (int, none),
        "versions": dict,
        "git_commit": (str, none),
        "command": list,
        "before": (list, none),
        "base_models": (list, none),
    }
    record = files.read_object(Path(folder) / RECORD, keys, error=RunError, advice=_AFRESH)
    resumed = record.get("resumed", [])
    for part in resumed if isinstance(resumed, list) else [resumed]:
        if (
            not isinstance(part, dict)
            or not isinstance(part.get("versions"), dict)
            or "git_commit" not in part
        ):
            raise RunError(f"{Path(folder) / RECORD}: damaged (resumed: {str(part)[:80]}); {_AFRESH}")
    for part in (record, *(record.get("before") or ())):
        words = part.get("command") if isinstance(part, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RunError(f"{Path(folder) / RECORD}: damaged (command: {str(words)[:80]}); {_AFRESH}")
    return record


def seconds(folder) -> float:
    """The seconds spent on an unfinished run before its last state.  Raises RunError where the file that says
    so is damaged."""
    path = Path(folder) / "state" / "seconds"
    try:
        return float(path.read_text(encoding="utf-8")) if path.exists() else 0.0
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); {_AFRESH}") from error


def read_results(folder) -> dict:
    """results.json of a finished run.  Raises RunError where it is damaged."""
    keys = {"stage": str, "metrics": dict}
    results = files.read_object(Path(folder) / "results.json", keys, error=RunError, advice=_AFRESH)
    for split, values in results["metrics"].items():
        if not isinstance(values, dict):
            raise RunError(
                f"{Path(folder) / 'results.json'}: damaged (metrics of {split}: {values!r}); {_AFRESH}"
            )
    return results


def _is_record(path):
    try:
        record = read_record(path.parent)
    except RunError:
        return False
    return "git_commit" in record


def _is_left_over(name):
    target = files.target_of(name)
    return target is not None and (is_own(target) or is_replaced(target))


def _foreign(folder):
    """Yield what is not ours inside the folders of a run."""
    for name in own_names(folder):
        ours = next((inside for pattern, inside in _INSIDE.items() if fnmatchcase(name, pattern)), None)
        if ours is None or not (folder / name).is_dir() or (folder / name).is_symlink():
            continue
        for entry in sorted((folder / name).iterdir()):
            written = files.target_of(entry.name) or entry.name
            if entry.is_dir() or not any(fnmatchcase(written, pattern) for pattern in ours):
                yield (
                    f"{name}/{entry.name} was not written by this program and would be lost; move it out of "
                    f"{name}/ first"
                )


def _differences(where, recorded, wanted, *, finished) -> str | None:
    """What has changed since the run began, as a message."""
    if recorded["stage"] != wanted["stage"]:
        return (
            f"{where}: a run of {recorded['stage']}, this is {wanted['stage']}; choose another, or "
            "--overwrite it"
        )
    found = []
    for group in ("settings", "inputs", *(() if finished else ("processes",))):
        old, new = (
            x.get(group) if isinstance(x.get(group), dict) else {group: x.get(group)}
            for x in (recorded, wanted)
        )
        if group == "settings":  # what a path means is compared by its hash, however it is spelled
            others = ("data_dir", "unlabelled_file")
            paths = {key for key in [*old, *new] if key.endswith("_path") or key in others}
            free = paths | (flags.OF_ANSWERS if finished else set())
            old, new = ({k: v for k, v in with_task(x).items() if k not in free} for x in (old, new))
        elif group == "inputs":
            old, new = without_tests(old, new)
        for key in sorted({*old, *new}):
            # What the run's version had not: a flag, unused, or the hash of an input
            is_newer = key not in old and (not new[key] if group == "settings" else key in _NEWER_INPUTS)
            if old.get(key) != new.get(key) and not is_newer:
                name = f"--{key}" if group == "settings" and not key.startswith(_OF_TASK) else key
                found.append(f"  {name}: {old.get(key)} in the run, {new.get(key)} now")
    return (
        "\n".join([f"{where}: a run with other settings; choose another, or --overwrite it", *found])
        if found
        else None
    )


def without_tests(old: dict, new: dict) -> tuple[dict, dict]:
    """Hashes of inputs without those of test files, which may come or change after a run began: no stage
    trains on them or chooses by them."""
    tests = {name for name in [*old, *new] if name.startswith(TESTS)}
    before = {
        f"data/{name.removeprefix(TESTS)}" for name in tests - {*old}
    }  # as earlier versions recorded them
    tests |= before - {*new}
    kept = [{name: digest for name, digest in each.items() if name not in tests} for each in (old, new)]
    return kept[0], kept[1]


def with_task(settings) -> dict:
    """Settings with what describes a task of the user's own among them.  What its files hold is compared by
    their hashes, wherever they are."""
    rest = {name: value for name, value in settings.items() if name != "own_task"}
    own = settings.get("own_task") or {}
    described = {name: value for name, value in own.items() if name not in ("files", "found")}
    return rest | {f"{_OF_TASK}{name}": value for name, value in described.items()}


def claim(folder, wanted, *, overwrite, answers, trains=True):
    """Lock a run folder that is there, look at it and tidy it up; returns its status and the seconds spent on
    it before.

    wanted, status, overwrite: of status().  answers: whether a finished run has more to do than to be
    reported, which needs no lock.  trains: whether a run that has not finished is to go on.
    Raises RunError where the run cannot go on here.
    """
    in_use = None
    if is_run(folder):
        try:
            run_lock.lock(folder)
            put_back(folder)
        except (RunError, OSError) as error:  # OSError: nobody can write here
            in_use = error
    found, problem = status(folder, wanted, overwrite=overwrite)
    if in_use is not None and (found != "finished" or problem is not None or answers):
        raise in_use
    if problem is None and found != "finished" and not trains:
        problem = f"--do_test, --do_infer: {folder} holds no finished run; add --do_train"
    if problem is not None:
        raise RunError(problem)
    if found == "new":
        return found, 0.0
    if in_use is None:
        tidy(folder, finished=found == "finished")
    return found, seconds(folder)


# ---- Replacing a run


def is_replaced(name: str) -> bool:
    """Whether a folder of this name in a run folder is a run that was moved aside."""
    return _REPLACED.fullmatch(name) is not None


def replaced(folder) -> list[Path]:
    """The folders with runs that --overwrite has moved aside, the last one first."""
    with contextlib.suppress(OSError):
        found = {
            int(match[1]): entry
            for entry in Path(folder).iterdir()
            if (match := _REPLACED.fullmatch(entry.name))
        }
        return [
            found[number]
            for number in sorted(found, reverse=True)
            if (found[number] / run_lock.MARKER).is_file()
        ]
    return []


def say_replaced(folder):
    """Yield where the run is that was in a folder before, as text."""
    for aside in replaced(folder):
        yield (
            f"{folder}: the run that was here before is kept in {aside.name}/ until the new one has a state "
            "or a result"
        )


def move_aside(folder):
    """Rename what the run in a folder has written into a new folder inside it, args.json first; foreign files
    stay."""
    folder = Path(folder)
    names = own_names(folder)
    if not names:
        return
    taken = {entry.name for entry in folder.iterdir()}
    aside = next(folder / name for name in map("replaced-{}".format, itertools.count(1)) if name not in taken)
    with files.new_folder(aside) as made:
        (made / run_lock.MARKER).write_text(run_lock.CONTENT, encoding="utf-8")
    for name in names:
        os.rename(folder / name, aside / name)
    files.sync(aside)
    files.sync(folder)
    logs.logger.info(
        "--overwrite: the run that was here is in %s until the new one has a first state or a result", aside
    )


def put_back(folder):
    """Undo a move_aside() that was killed before the new run had begun."""
    folder = Path(folder)
    if os.path.lexists(folder / RECORD):
        return
    for aside in replaced(folder):
        if not os.path.lexists(aside / RECORD):
            continue
        # args.json last
        for entry in sorted(aside.iterdir(), key=lambda entry: (entry.name == RECORD, entry.name)):
            if entry.name != run_lock.MARKER and not os.path.lexists(folder / entry.name):
                os.rename(entry, folder / entry.name)
        with contextlib.suppress(OSError):
            (aside / run_lock.MARKER).unlink()
            aside.rmdir()
        return


def drop_replaced(folder):
    """Remove the runs that were moved aside: the new one is there."""
    for aside in replaced(folder):
        files.remove(aside)
        if aside.exists():
            logs.logger.warning("%s: the old run cannot be removed from here", aside)


def tidy(folder, *, finished):
    """Remove what a kill has left over: files that were being written; of a finished run also its state and
    the run before."""
    files.clean(folder, lambda name: is_own(name) or is_replaced(name))
    if (Path(folder) / "predictions").is_dir():
        files.clean(Path(folder) / "predictions", lambda name: True)
    if finished:
        files.remove(Path(folder) / "state")
        drop_replaced(folder)
