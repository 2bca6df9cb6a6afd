"""The registry of tasks: files, columns, labels, metrics.  Nothing here imports torch, so that the flags can
use it.

    task = tasks.get("mrpc")
    train = task.read("datasets", "train")      # columns, see readers.Examples

Adding a task in GLUE's format is adding an entry to the table at the end.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from data import demo, hub_datasets, own_tasks, readers, tagged_words
from data.readers import Examples, Table
from data.squad.questions import read_questions
from utils import provenance
from utils.errors import DataError, FlagError
from utils.logs import logger
from utils.metrics import of_kind


@dataclass(frozen=True)
class Task:
    """One task.

    kind: "classification" (one of label_names per example), "multilabel" (any of them), "regression" (one
        number), "tagging" (a label per word), "spans" (first and last token of the answer to a question).
    label_names: the classes in the order of their ids; empty for regression and spans.
    metrics: the names under which utils.metrics or utils.answers reports; selection_metric is the one that
    chooses checkpoints. filenames: the file of each split, inside the task's folder; other_filenames: what
        some copies call it.  eval_splits: those that are scored while training; the first one selects.
        test_splits: those that GLUE wants predictions for.
    table: where the columns are; None for CoNLL and SQuAD files.
    file_labels: the label words of the files, in the order of their ids.
    max_length: tokens of a row where --max_length is not given.
    submissions: split to the file name that GLUE wants; submission_labels: the words in it, by id.
    folder_names: what its folder may be called, as spelled() spells it, the usual one first; its name alone
        where there are none.
    own: the description that a user's own task is of, see data.own_tasks; its files have absolute paths.
    """

    name: str
    kind: str
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    selection_metric: str
    table: Table | None
    file_labels: tuple[str, ...]
    filenames: dict[str, str]
    eval_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ("test",)
    submissions: dict[str, str] | None = None
    submission_labels: tuple[str, ...] = ()
    score_range: tuple[float, float] | None = None
    max_length: int = 128
    folder_names: tuple[str, ...] = ()
    other_filenames: dict[str, tuple[str, ...]] = field(default_factory=dict)
    own: dict | None = None

    @property
    def num_labels(self) -> int:
        """Outputs of the task head: the number of classes, 1 for regression, 2 for spans (of each token:
        start and end)."""
        return 2 if self.kind == "spans" else len(self.label_names) or 1

    def judged_by(self, metric: str | None) -> "Task":
        """The same task, with a metric of its kind (utils.metrics.of_kind) beside its own; None adds none."""
        return self if metric in (None, *self.metrics) else replace(self, metrics=(*self.metrics, metric))

    def words(self, answer) -> str:
        """A class id, or the ids of all labels of an example, in the words of GLUE's submissions."""
        names = self.submission_labels
        return names[answer] if isinstance(answer, int) else ",".join(names[i] for i in answer)

    def folder(self, data_dir) -> Path:
        """The folder with the task's files: data_dir/<task>, in any spelling (MRPC, SST-2), or data_dir
        itself where it holds them.  A user's own task has files anywhere.

        The demo task's files are made where they are absent.  Raises DataError for a folder that is not
        there.
        """
        if self.own is not None:
            return Path()  # its files have absolute paths
        data_dir = Path(data_dir).expanduser()
        spellings, names = self.folder_names or (self.name,), list(self.filenames.values())
        inside = data_dir / spellings[0]
        if inside.is_dir():
            return inside
        for entry in sorted(data_dir.iterdir()) if data_dir.is_dir() else ():
            if spelled(entry.name) in spellings and entry.is_dir():
                return entry
        if any((data_dir / name).is_file() for split in self.filenames for name in self._names(split)):
            return data_dir
        if self.name == "demo":
            try:
                return demo.write_files(inside)
            except OSError as error:
                raise DataError(
                    f"--data_dir {data_dir}: the demo task cannot be made in it ({error.strerror})"
                ) from error
        found = (
            "no such folder" if not data_dir.is_dir() else f"no folder {inside.name}/ and no {names[0]} in it"
        )
        raise DataError(
            f"{data_dir}: {found}; expected {inside} with {', '.join(names)}, or --data_dir naming the "
            "folder of these files; datasets/README.md says where to get them"
        )

    def _names(self, split):
        return (self.filenames[split], *self.other_filenames.get(split, ()))

    def _file(self, folder, split) -> Path:
        """The file of a split in the task's folder, by the usual name where there is none."""
        paths = [folder / name for name in self._names(split)]
        return next((path for path in paths if path.is_file()), paths[0])

    def files(self, data_dir) -> dict[str, Path]:
        """The file of each split whose file is there.  Raises DataError where the folder or all of its files
        are missing."""
        folder = self.folder(data_dir)
        files = {split: path for split in self.filenames if (path := self._file(folder, split)).is_file()}
        if not files:
            raise DataError(
                f"{folder}: found none of {', '.join(self.filenames.values())}; {self.name} is read from "
                "these"
            )
        return files

    def inputs(self, data_dir) -> dict[str, list[Path]]:
        """The files of a run: "data" is trained on or chooses, "test" is answered at the end and may come
        later.  Errors as of files()."""
        groups = {"data": [], "test": []}
        for split, path in self.files(data_dir).items():
            groups["test" if split in self.test_splits else "data"].append(path)
        return groups

    def available_eval_splits(self, data_dir) -> tuple[str, ...]:
        """The splits to score: the first always (reading it says what is wrong), later ones whose file is
        there."""
        files = self.files(data_dir)
        for split in self.eval_splits[1:]:
            if split not in files:
                logger.info("%s: no %s, so %s is not scored", self.name, self.filenames[split], split)
        return self.eval_splits[:1] + tuple(split for split in self.eval_splits[1:] if split in files)

    def read(self, data_dir, split: str) -> Examples:
        """The examples of a split: "train", one of eval_splits or test_splits; "test" means the first of
        these.

        A test file may be labelled or not; the labels are None where it is not.
        Raises DataError naming file and line for whatever does not fit.
        """
        split = self.test_splits[0] if split == "test" else split
        if split not in self.filenames:
            if self.own is None:
                raise DataError(
                    f"--task_name {self.name}: has no {split} rows; expected a use of its "
                    f"{' and '.join(self.filenames)}: run_evaluation.py --do_infer or --predict"
                )
            raise DataError(
                f"{self.name}: found no file of {split}; expected one: --train_file, --validation_file or "
                "--test_file, or the files of its task file"
            )
        path = self._file(self.folder(data_dir), split)
        provenance.note_read(path)
        if self.own is None and not path.exists():
            raise DataError(f"{path}: no such file; datasets/README.md says where to get it")
        role = "test" if split in self.test_splits else split
        if self.kind == "spans":
            examples = read_questions(path, split=role)
        elif self.kind == "tagging":
            names = self.own["tag_names"] if self.own else ()
            options = {"label_names": self.label_names, "table": self.table, "names": names}
            examples = tagged_words.read_words(path, split=role, **options)
        else:
            ids = {label: i for i, label in enumerate(self.file_labels)} or None
            score_range = None if self.own else self.score_range
            options = {"kind": self.kind, "label_ids": ids, "score_range": score_range}
            options["own"] = self.own is not None
            examples = readers.read_table(path, self.table, split=role, **options)
        examples.split = split
        return examples


def of_description(description: dict) -> Task:
    """A user's own task.  description: as data.own_tasks.resolve() makes it.  Raises DataError for a metric
    that is none of its kind's."""
    kind, labels = description["kind"], tuple(description["labels"])
    metrics = _TASKS["squad2"].metrics if kind == "spans" else own_tasks.METRICS[kind]
    given = description.get("metric")
    known = dict.fromkeys([*metrics, *of_kind(kind, labels)])
    if given is not None and given not in known:
        raise DataError(
            f"{description['name']}: metric: found {given!r}; expected one of {', '.join(known)}; correct it"
        )
    score_range = description.get("score_range")
    return Task(
        description["name"],
        kind,
        labels,
        metrics if given in (None, *metrics) else (*metrics, given),
        given or ("f1" if kind == "spans" else metrics[-1]),
        own_tasks.table_of(description),
        labels,
        description["files"],
        submissions={},
        submission_labels=labels,
        score_range=None if score_range is None else tuple(map(float, score_range)),
        max_length=description.get("max_length") or (384 if kind == "spans" else 128),
        own=description,
    )


def add(description, *, resolved: bool = False) -> Task:
    """A task of the user's own, as one more in the registry.

    description: a task file, or what data.own_tasks.read_description() would make of it; what it lacks is
    told from the files, all of which are read.  resolved: it is whole already, nothing is read.
    Raises FlagError where a built-in task has its name, and DataError.
    """
    if not isinstance(description, dict):
        description = own_tasks.read_description(description)
    task = of_description(description if resolved else own_tasks.resolve(description))
    if not resolved:
        task.own["found"] = own_tasks.summary(task)
    if task.name in NAMES:
        raise FlagError(
            f"{task.name}: found a built-in task of that name; expected another for a task of your own: name "
            'it in its task file ("name")'
        )
    _TASKS[task.name] = task
    return task


def of_dataset(name: str, config: str | None) -> dict:
    """What a data set of the Hub tells of a task, see data.hub_datasets."""
    return hub_datasets.describe(name, config)


def spelled(name: str) -> str:
    """A name in lower case without - and _, as the tasks' are: SST-2 is sst2."""
    return name.lower().replace("-", "").replace("_", "")


def find(name: str | None) -> Task | None:
    """The task of this name, or None where there is none."""
    return _TASKS.get(name)


def get(name: str) -> Task:
    """The task of this name.  Raises FlagError for another one."""
    if name not in _TASKS:
        raise FlagError(f"--task_name: found {name!r}; expected one of {', '.join(NAMES)}")
    return _TASKS[name]


_FILES = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
_MNLI_FILES = {
    "train": "train.tsv",
    "dev_matched": "dev_matched.tsv",
    "dev_mismatched": "dev_mismatched.tsv",
    "test_matched": "test_matched.tsv",
    "test_mismatched": "test_mismatched.tsv",
}
_DIGITS = ("0", "1")
_ENTAILMENT = ("not_entailment", "entailment")  # the papers' order; the hub's GLUE has it the other way round
_ACC = ("acc",)
_ACC_F1 = ("acc", "f1", "acc_and_f1")


def _glue(name, official, labels, metrics, table, *, named=False):
    """A GLUE classification task.  named: its files and GLUE's submissions hold the label's name, else 0 or
    1."""
    words = labels if named else _DIGITS
    return Task(
        name,
        "classification",
        labels,
        metrics,
        metrics[-1],
        table,
        words,
        _FILES,
        submissions={"test": f"{official}.tsv"},
        submission_labels=words,
    )


def _mnli():
    labels = ("contradiction", "neutral", "entailment")
    matched = replace(
        _glue("mnli", "MNLI-m", labels, _ACC, Table("sentence1", "sentence2", "gold_label"), named=True),
        filenames=_MNLI_FILES,
        eval_splits=("dev_matched", "dev_mismatched"),
        test_splits=("test_matched", "test_mismatched"),
        submissions={"test_matched": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
    )
    mismatched = {
        "eval_splits": ("dev_mismatched",),
        "test_splits": ("test_mismatched",),
        "folder_names": ("mnli",),
    }
    return matched, replace(matched, name="mnlimm", **mismatched)


def _stsb():
    table = Table("sentence1", "sentence2", "score")
    metrics = ("pearson", "spearman", "corr")
    submissions = {"test": "STS-B.tsv"}
    return Task(
        "stsb",
        "regression",
        (),
        metrics,
        "corr",
        table,
        (),
        _FILES,
        submissions=submissions,
        score_range=(0.0, 5.0),
    )


def _conll():
    labels = ("O", *(f"{prefix}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for prefix in "BI"))
    files = {"train": "train.txt", "dev": "dev.txt", "test": "test.txt"}
    original = {"train": ("eng.train",), "dev": ("eng.testa",), "test": ("eng.testb",)}
    return Task(
        "conll",
        "tagging",
        labels,
        ("precision", "recall", "f1"),
        "f1",
        None,
        labels,
        files,
        folder_names=("conll", "conll2003", "conll03"),
        other_filenames=original,
    )


def _ax():
    """GLUE's diagnostics: pairs without labels, for a model of MNLI."""
    mnli, _ = _mnli()
    return replace(
        mnli,
        name="ax",
        filenames={"test": "diagnostic.tsv"},
        other_filenames={"test": ("AX.tsv", "ax.tsv", "test.tsv")},
        eval_splits=(),
        test_splits=("test",),
        submissions={"test": "AX.tsv"},
        folder_names=("ax", "diagnostic"),
    )


def _squad():
    metrics = [prefix + name for prefix in ("", "HasAns_", "NoAns_", "best_") for name in ("exact", "f1")]
    files = {split: f"{split}-v2.0.json" for split in ("train", "dev", "test")}
    return Task("squad2", "spans", (), tuple(metrics), "f1", None, (), files, max_length=384)


_TASKS = {
    task.name: task
    for task in (
        _glue(
            "cola",
            "CoLA",
            ("unacceptable", "acceptable"),
            ("matthews_corrcoef",),
            Table("sentence", None, "label", headerless=("source", "label", "mark", "sentence")),
        ),
        _glue("sst2", "SST-2", ("negative", "positive"), _ACC, Table("sentence", None, "label")),
        _glue(
            "mrpc",
            "MRPC",
            ("not_equivalent", "equivalent"),
            _ACC_F1,
            Table("#1 String", "#2 String", "Quality"),
        ),
        _stsb(),
        _glue(
            "qqp",
            "QQP",
            ("not_duplicate", "duplicate"),
            _ACC_F1,
            Table("question1", "question2", "is_duplicate"),
        ),
        *_mnli(),
        _ax(),
        _glue("qnli", "QNLI", _ENTAILMENT, _ACC, Table("question", "sentence", "label"), named=True),
        _glue("rte", "RTE", _ENTAILMENT, _ACC, Table("sentence1", "sentence2", "label"), named=True),
        _glue("wnli", "WNLI", _ENTAILMENT, _ACC, Table("sentence1", "sentence2", "label")),
        _conll(),
        _squad(),
        _glue("demo", "demo", _ENTAILMENT, _ACC, Table("sentence1", "sentence2", "label"), named=True),
    )
}
NAMES = tuple(_TASKS)
KINDS = own_tasks.KINDS
