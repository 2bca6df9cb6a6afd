"""One task's splits, tokenised for one model; read when they are first asked for."""

from data import demo, hold_out
from data.model_tokenizer import load_tokenizer, tokenizer_hash
from data.splits import require_labels
from data.squad.question_split import SpanOptions
from data.tokenising import tokenise_examples
from utils import flags
from utils.errors import CheckpointError
from utils.runs import DRY_RUN_ROWS

HOLD_OUT = "hold_out"  # the name of the rows that --hold_out keeps from training
_SAMPLE = "Unrelated vocabularies differ"  # shown as two tokenizers cut it


class TaskData:
    """The data of a run.

    train: Split.  dev: {split name: Split}, the first one selects checkpoints.  tokenizer: of the model at tokenizer_path
    (None: that of the demo task).  With --hold_out a part of the training rows chooses instead of dev (`selection`).
    """

    def __init__(self, task, args, *, tokenizer_path):
        self.task, self.args, self._splits = task, args, {}
        self.hold_out = getattr(args, "hold_out", None) or 0.0
        if tokenizer_path is None:
            tokenizer_path = demo.build_tokenizer(task.folder(args.data_dir))
        self.tokenizer = load_tokenizer(tokenizer_path)

    @property
    def train(self):
        """The training split without what is held out, cut to --max_train_samples."""
        return self.split("train", max_samples=self.args.max_train_samples)

    @property
    def dev(self) -> dict:
        """The splits that are reported, as far as their files are there, cut to --max_eval_samples."""
        names, max_samples = self.task.available_eval_splits(self.args.data_dir), self.args.max_eval_samples
        return {name: self.split(name, max_samples=max_samples) for name in names}

    @property
    def selection(self) -> dict:
        """The splits that are scored wherever something is chosen, the chooser first: dev, or the rows that are held out."""
        return {HOLD_OUT: self.split(HOLD_OUT, max_samples=self.args.max_eval_samples)} if self.hold_out else self.dev

    def check_tokenizer(self, path):
        """Raise CheckpointError where the tokenizer of the checkpoint at path means other pieces by the same ids."""
        ours, theirs = self.tokenizer, load_tokenizer(path)
        if tokenizer_hash(ours) != tokenizer_hash(theirs):
            here, there = (f"{type(t).__name__}, {len(t)} pieces, {' '.join(t.tokenize(_SAMPLE))!r}" for t in (ours, theirs))
            raise CheckpointError(
                f"{path}: its tokenizer has another vocabulary ({there}) than the teacher's ({here}); "
                "both read the same ids, so they must share one"
            )

    def sizes(self) -> dict:
        """Rows of all splits that a run which trains will need: train, dev, and test where it is to be scored or predicted."""
        splits = {"train": self.train, **self.selection, **self.dev, **self.tests, **self.inferred}
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
        """The splits "dev", "train", "hold_out" or "test", by name, cut to --max_eval_samples; they need labels."""
        if which == "dev":
            return self.dev
        names = self.task.test_splits if which == "test" else (which,)
        return {name: self.split(name, labelled=True, max_samples=self.args.max_eval_samples) for name in names}

    @property
    def inferred(self) -> dict:
        """The splits that --do_infer asks for, by name."""
        if not self.args.do_infer:
            return {}
        return self.dev if self.args.infer_split == "dev" else {name: self.split(name) for name in self.task.test_splits}

    def split(self, name: str, *, labelled=False, max_samples=None):
        """A split by name; of "train" the rows that are not held out, which are "hold_out".

        labelled: its labels are needed (DataError where the file has none).  max_samples: a fixed sample of so many rows.
        """
        key = (name, DRY_RUN_ROWS if self.args.dry_run else max_samples)
        if key not in self._splits:
            self._splits[key] = self.tokenised(self._read(name).sample(key[1]))
        split = self._splits[key]
        if labelled:
            require_labels(split)
        return split

    def _read(self, name):
        examples = self.task.read(self.args.data_dir, "train" if name == HOLD_OUT else name)
        if not self.hold_out or name not in ("train", HOLD_OUT):
            return examples
        held, rest = hold_out.parts(examples, self.hold_out, kind=self.task.kind)
        taken = examples.take(held if name == HOLD_OUT else rest)
        taken.split = name
        return taken

    def tokenised(self, examples):
        """Examples as a split for this model."""
        options = {"max_length": self.args.max_length}
        if self.task.kind == "spans":
            options["spans"] = SpanOptions(**{name: getattr(self.args, name) for name in flags.SPANS})
        return tokenise_examples(examples, self.tokenizer, task=self.task, **options)
