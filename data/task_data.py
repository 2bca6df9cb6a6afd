"""One task's splits, tokenised for one model; read when they are first asked for."""

import random

from data import demo, pipelines
from data.spans import Options
from utils import flags
from utils.errors import CheckpointError, DataError
from utils.runs import DRY_RUN_ROWS

HELD_OUT = 0.1  # share of the training rows in train_part
_SAMPLE = "Unrelated vocabularies differ"  # shown as two tokenizers cut it


class TaskData:
    """The data of a run.

    train: Split.  dev: {split name: Split}, the first one selects checkpoints.  tokenizer: of the model at tokenizer_path
    (None: that of the demo task).
    hold_out: a fixed part of the training rows is not trained on; it selects instead of dev (`selection`).
    """

    def __init__(self, task, args, *, tokenizer_path, hold_out=False):
        self.task, self.args, self.hold_out, self._splits = task, args, hold_out, {}
        if tokenizer_path is None:
            tokenizer_path = demo.build_tokenizer(task.folder(args.data_dir))
        self.tokenizer = pipelines.load_tokenizer(tokenizer_path)

    @property
    def train(self):
        """The training split, cut to --max_train_samples, without what is held out."""
        return self.split("train", max_samples=self.args.max_train_samples, part="rest" if self.hold_out else None)

    @property
    def dev(self) -> dict:
        """The splits that every evaluation scores, as far as their files are there, cut to --max_eval_samples."""
        names, max_samples = self.task.available_eval_splits(self.args.data_dir), self.args.max_eval_samples
        return {name: self.split(name, max_samples=max_samples) for name in names}

    @property
    def selection(self) -> dict:
        """The splits that are scored where something is chosen, the chooser first: dev, or train_part and then dev."""
        if not self.hold_out:
            return self.dev
        return {"train_part": self.split("train", max_samples=self.args.max_train_samples, part="held out"), **self.dev}

    def check_tokenizer(self, path):
        """Raise CheckpointError where the tokenizer of the checkpoint at path means other pieces by the same ids."""
        ours, theirs = self.tokenizer, pipelines.load_tokenizer(path)
        if pipelines.tokenizer_hash(ours) != pipelines.tokenizer_hash(theirs):
            here, there = (f"{type(t).__name__}, {len(t)} pieces, {' '.join(t.tokenize(_SAMPLE))!r}" for t in (ours, theirs))
            raise CheckpointError(
                f"{path}: its tokenizer has another vocabulary ({there}) than the teacher's ({here}); "
                "both read the same ids, so they must share one"
            )

    def sizes(self) -> dict:
        """Rows of all splits that a run which trains will need: train, dev, and test where it is to be scored or predicted."""
        splits = {"train": self.train, **self.selection, **self.tests, **self.inferred}
        return {name: len(split) for name, split in splits.items()}

    def scoring_split(self, name: str, max_samples: int | None):
        """The rows that units are scored on: a fixed sample of train, or of the split that selects."""
        if name == "train":
            return self.split("train", max_samples=max_samples or self.args.max_train_samples)
        return self.split(self.task.eval_splits[0], max_samples=max_samples)

    @property
    def tests(self) -> dict:
        """The splits that --do_test asks for, by name; they need labels."""
        return {name: self.split(name, labelled=True) for name in self.task.test_splits} if self.args.do_test else {}

    def labelled(self, which: str) -> dict:
        """The splits "dev", "train" or "test", by name, cut to --max_eval_samples; they need labels."""
        if which == "dev":
            return self.dev
        names = self.task.test_splits if which == "test" else ("train",)
        return {name: self.split(name, labelled=True, max_samples=self.args.max_eval_samples) for name in names}

    @property
    def inferred(self) -> dict:
        """The splits that --do_infer asks for, by name."""
        if not self.args.do_infer:
            return {}
        return self.dev if self.args.infer_split == "dev" else {name: self.split(name) for name in self.task.test_splits}

    def split(self, name: str, *, labelled=False, max_samples=None, part=None):
        """A split by name.  labelled: its labels are needed (DataError where the file has none).  part: see _part."""
        key = (name, DRY_RUN_ROWS if self.args.dry_run else max_samples, part)
        if key not in self._splits:
            examples = self.task.read(self.args.data_dir, name, max_samples=key[1])
            if part is not None:
                examples = _part(examples, part)
            self._splits[key] = self.encode(examples)
        split = self._splits[key]
        if labelled:
            pipelines.require_labels(split)
        return split

    def encode(self, examples):
        """Examples as a split for this model."""
        options = {"max_length": self.args.max_length}
        if self.task.kind == "spans":
            options["spans"] = Options(**{name: getattr(self.args, name) for name in flags.SPANS})
        return pipelines.encode(examples, self.tokenizer, task=self.task, **options)


def _part(examples, part):
    """The "held out" tenth of some examples, a sample that is the same for every run, or the "rest"; in the file's order."""
    order = list(range(len(examples)))
    random.Random(1).shuffle(order)
    number = max(1, round(HELD_OUT * len(order)))
    if len(order) < 2:
        raise DataError(f"{examples.path}: found {len(order)} row; a part can be held out of 2 or more")
    return examples.take(sorted(order[:number] if part == "held out" else order[number:]))
