"""One task's splits, tokenised for one model; read when they are first asked for."""

import copy

from data import demo, hold_out, new_rows
from data.model_tokenizer import load_tokenizer, tokenizer_hash
from data.splits import Whole, require_labels
from data.squad.question_split import SpanOptions
from data.tokenising import tokenise_examples
from utils.errors import CheckpointError, DataError, FlagError
from utils.logs import logger

HOLD_OUT = "hold_out"  # the name of the rows that are kept from training
_GOLD = "labelled train"  # where train has text without labels beside them: its rows that have some
_MOST_MEASURED = 4000  # rows that a dry run tokenises to know how long they are
_BYTES_OF_TOKEN = 8  # its id and its segment
_SAMPLE = "Unrelated vocabularies differ"  # shown as two tokenizers cut it


class TaskData:
    """The data of a run.

    train: Split.  dev: {split name: Split}, the first one selects checkpoints.  tokenizer: of the model at
    tokenizer_path.
    With a share that is held out, rows of train choose instead of dev (`selection`).
    """

    def __init__(
        self,
        task,
        *,
        tokenizer_path,
        data_dir,
        max_length: int,
        max_train_samples: int | None = None,
        max_eval_samples: int | None = None,
        hold_out: float = 0.0,
        do_test: bool = False,
        infer_split: str | None = None,
        max_rows: int | None = None,
        spans: dict | None = None,
        metric: str | None = None,
        class_weights: str = "none",
        unlabelled: tuple[str, ...] = (),
        unlabelled_only: bool = False,
    ):
        """tokenizer_path: of a checkpoint; None for that of the demo task.  data_dir: holds the tasks'
        folders.

        max_length: tokens of a row, specials included.  max_train_samples, max_eval_samples: rows of train
        and of what is scored while training, fixed samples; max_rows: of every split, for a dry run, which
        has as many of the longest rows of train besides.
        hold_out: share of train that is kept from training.  do_test: whether the test splits are scored.
        infer_split: "test" or "dev", where predictions are wanted.  spans: the values of SpanOptions, for a
        task of that kind.  metric: one of its kind that is wanted beside the task's own.  class_weights:
        "balanced": batches of train say how much each class counts in the loss against the gold labels.
        unlabelled: files with more text to train on; train has no labels then, and with unlabelled_only no
        other text.  Units are scored on rows with labels all the same.
        """
        self.task, self._splits = task.judged_by(metric), {}
        self._weighs_classes = class_weights == "balanced"
        self._unlabelled, self._unlabelled_only = unlabelled, unlabelled_only
        self._data_dir, self._max_length, self._max_rows = data_dir, max_length, max_rows
        self._max_train_samples, self._max_eval_samples = max_train_samples, max_eval_samples
        self._hold_out, self._do_test, self._infer_split = hold_out, do_test, infer_split
        self._span_options = SpanOptions(**spans) if task.kind == "spans" else None
        if tokenizer_path is None:
            tokenizer_path = demo.build_tokenizer(task.folder(data_dir))
        self.tokenizer = load_tokenizer(tokenizer_path)

    @property
    def train(self):
        """The training split without what is held out, cut to max_train_samples."""
        return self.split("train", max_samples=self._max_train_samples)

    @property
    def dev(self) -> dict:
        """The splits that are reported, as far as their files are there, cut to max_eval_samples."""
        names, max_samples = self.task.available_eval_splits(self._data_dir), self._max_eval_samples
        return {name: self.split(name, max_samples=max_samples) for name in names}

    @property
    def selection(self) -> dict:
        """The splits that are scored wherever something is chosen, the chooser first: dev, or the rows that
        are held out."""
        return (
            {HOLD_OUT: self.split(HOLD_OUT, max_samples=self._max_eval_samples)}
            if self._hold_out
            else self.dev
        )

    def for_student(self, path) -> "TaskData":
        """The same rows as the student in the checkpoint at path reads them, these being its teacher's: this
        object where the same ids mean the same pieces to both, another one where the student's vocabulary is
        a part of the teacher's.

        Raises CheckpointError for any other vocabulary.
        """
        theirs = load_tokenizer(path)
        if theirs.get_vocab().keys() < self.tokenizer.get_vocab().keys():
            made = copy.copy(self)
            made.tokenizer, made._splits = theirs, {}
            return made
        self._require_same(theirs, path)
        return self

    def require_common_tokens(self, student_data, terms):
        """Raise FlagError where terms of an objective hold a student's tokens against its teacher's one by
        one, and the two cut texts into others.

        student_data: as for_student() gives it.  terms: their names.
        """
        if terms and student_data is not self:
            raise FlagError(
                f"--student_model_path: its vocabulary has {len(student_data.tokenizer)} of the teacher's "
                f"{len(self.tokenizer)} pieces, so that a text has other tokens for it, and "
                f"{' and '.join(terms)} would compare them one by one; expected an objective of whole texts "
                "(--model_type kd; of filters those with --filter_token mean), or a teacher with the same "
                "pieces (run_vocabulary.py --trim_embeddings makes it)"
            )

    def check_tokenizer(self, path):
        """Raise CheckpointError where the tokenizer of the checkpoint at path means other pieces by the same
        ids."""
        self._require_same(load_tokenizer(path), path)

    def _require_same(self, theirs, path):
        ours = self.tokenizer
        if tokenizer_hash(ours) != tokenizer_hash(theirs):
            here, there = (
                f"{type(t).__name__}, {len(t)} pieces, {' '.join(t.tokenize(_SAMPLE))!r}"
                for t in (ours, theirs)
            )
            raise CheckpointError(
                f"{path}: its tokenizer has another vocabulary ({there}) than the teacher's ({here}); "
                "both read the same ids, so they must share one"
            )

    def sizes(self, **used) -> dict:
        """Rows of all splits that a run will need: train, dev, and test where it is to be scored or
        predicted.  All of their files are read.

        used: {name: split} instead of train, of a run that does not train.
        """
        used = used or {"train": self.train}
        splits = {**used, **self.selection, **self.dev, **self.tests, **self.inferred}
        return {name: len(split) for name, split in splits.items()}

    def scoring_split(self, name: str, max_samples: int | None):
        """The rows that units are scored on: a fixed sample of train, or of the split that selects."""
        if name == "train":
            rows = _GOLD if self._unlabelled else "train"
            return self.split(rows, max_samples=max_samples or self._max_train_samples)
        return self.split(self.task.eval_splits[0], max_samples=max_samples)

    @property
    def tests(self) -> dict:
        """The splits that do_test asks for, by name; they need labels."""
        return (
            {name: self.split(name, labelled=True) for name in self.task.test_splits} if self._do_test else {}
        )

    def labelled(self, which: str) -> dict:
        """The splits "dev", "train", "hold_out" or "test", by name, cut to max_eval_samples; they need
        labels."""
        if which == "dev":
            return self.dev
        names = self.task.test_splits if which == "test" else (which,)
        return {name: self.split(name, labelled=True, max_samples=self._max_eval_samples) for name in names}

    @property
    def inferred(self) -> dict:
        """The splits that infer_split asks for, by name."""
        if self._infer_split is None:
            return {}
        return (
            self.dev
            if self._infer_split == "dev"
            else {name: self.split(name) for name in self.task.test_splits}
        )

    def split(self, name: str, *, labelled=False, max_samples=None):
        """A split by name; of "train" the rows that are not held out, which are "hold_out".

        labelled: its labels are needed (DataError where the file has none).  max_samples: a fixed sample of
        so many rows.
        """
        key = (name, self._max_rows or max_samples)
        if key not in self._splits:
            if name == "train" and self._max_rows:
                self._splits[key] = self._few_of(self._read(name).sample(max_samples))
            else:
                self._splits[key] = self.tokenised(self._read(name).sample(key[1]))
            if self._weighs_classes and name == "train":
                self._splits[key].weigh_classes()
        split = self._splits[key]
        if labelled:
            require_labels(split)
        return split

    def _few_of(self, examples):
        """A few of these examples as a split, the longest among them.  It knows the sizes of all, by a sample
        where they are many."""
        split = self.tokenised(examples.longest(self._max_rows, beside=self._max_rows))
        sample = examples.sample(_MOST_MEASURED)
        measured, share = self.tokenised(sample), len(examples) / len(sample)
        tokens = round(share * int(measured.lengths.sum()))
        num_bytes = round(share * sample.num_bytes()) + _BYTES_OF_TOKEN * tokens
        split.stands_for = Whole(round(share * len(measured)), tokens, num_bytes)
        return split

    def _read(self, name):
        if name != "train" or not self._unlabelled:
            return self._labelled(name)
        more = [part for path in self._unlabelled for part in new_rows.read_unlabelled(path, self.task)]
        if self._hold_out:
            more = self._not_held_out(more)
        if self._unlabelled_only:
            return more[0].with_unlabelled(more[1:])
        return self._labelled(name).with_unlabelled(more)

    def _not_held_out(self, parts):
        """Text without labels is often the pool that train was drawn from."""
        held, rows = self._labelled(HOLD_OUT), sum(map(len, parts))
        parts = [hold_out.without(part, held, kind=self.task.kind) for part in parts]
        if left_out := rows - sum(map(len, parts)):
            logger.info("text without labels: %d of %d rows left out, which are held out", left_out, rows)
        if self._unlabelled_only and left_out == rows:
            raise DataError(f"{self._unlabelled[0]}: all its rows are held out; expected some to train on")
        return parts

    def _labelled(self, name):
        examples = self.task.read(self._data_dir, "train" if name in (HOLD_OUT, _GOLD) else name)
        if not self._hold_out or name not in ("train", HOLD_OUT, _GOLD):
            return examples
        held, rest = hold_out.separate(examples, self._hold_out, kind=self.task.kind)
        taken = examples.take(held if name == HOLD_OUT else rest)
        taken.split = name
        return taken

    def tokenised(self, examples):
        """Examples as a split for this model."""
        return tokenise_examples(
            examples, self.tokenizer, task=self.task, max_length=self._max_length, spans=self._span_options
        )
