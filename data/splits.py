"""One tokenised split: batches, their order, scores, submissions.

The tokens of all rows lie behind each other in one array, so that a batch is cut out of it without a loop
over tokens.
N rows, B rows of a batch, L tokens.
"""

import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data import tagged_words
from data.readers import Examples
from utils import files, metrics
from utils.batch import Batch
from utils.errors import DataError, RunError

NOT_SCORED = -100  # torch's ignore_index
UNKNOWN = -1  # of a word's first piece in unlabelled text: it is answered, with a label that is not known
_CHUNK = 50  # batches within which rows are sorted by length: nearly no padding, still a random order


class Whole(NamedTuple):
    """Sizes of a split of which a dry run has few rows: its rows, their tokens, the bytes that they take in
    memory."""

    rows: int
    tokens: int
    num_bytes: int


class LengthGrouped:
    """The order of N rows, by their lengths alone: [N] int64, tokens with specials."""

    lengths: np.ndarray
    stands_for = None  # Whole, where these rows are few of others, for a dry run

    def __len__(self):
        return len(self.lengths)

    @property
    def whole_size(self) -> tuple[int, int]:
        """(rows, tokens) of a run that is no dry one."""
        if self.stands_for is None:
            return len(self), int(self.lengths.sum())
        return self.stands_for.rows, self.stands_for.tokens

    def epoch(self, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
        """The row numbers of each batch of an epoch, a pure function of the arguments: every row once, in
        random order, rows of similar length together.  The last rows make a short batch, which can come
        anywhere."""
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
        order, batches = random.permutation(len(self)), []
        for start in range(0, len(order), _CHUNK * batch_size):
            batches += _cut(self._by_length(order[start : start + _CHUNK * batch_size]), batch_size)
        return [batches[i] for i in random.permutation(len(batches))]

    def in_order(self, batch_size: int) -> list[np.ndarray]:
        """Every row once, the longest first: for evaluation; what does not fit the memory fails at once."""
        return _cut(self._by_length(np.arange(len(self))), batch_size)

    def _by_length(self, indices):
        return indices[np.argsort(-self.lengths[indices], kind="stable")]


class Split(LengthGrouped):
    """Examples as token ids.  A row is an example; for tagging a sentence, or a part of one that was too
    long.

    examples: the columns read.  lengths: [N] int64, tokens with specials.  num_truncated: texts that were
    cut.
    """

    def __init__(
        self,
        examples: Examples,
        task,
        *,
        ids,
        types,
        lengths,
        labels,
        first_pieces=None,
        num_truncated=0,
        pad_id=0,
        pad_type=0,
        padding_side="right",
    ):
        """ids, types: [tokens of all rows] int32; types is None where the tokenizer makes none.  labels: [N]
        class ids or scores; for multilabel [N, C] 1 or 0; for tagging [tokens of all rows] label ids,
        NOT_SCORED on all but the first piece of a word; or None. first_pieces: for tagging [words], where in
        ids each word's first piece is, in the order of the words."""
        self.examples, self.task, self.lengths, self.num_truncated = examples, task, lengths, num_truncated
        self._ids, self._types, self._labels, self._first_pieces = ids, types, labels, first_pieces
        self._starts = np.cumsum(lengths) - lengths
        self._pad_id, self._pad_type, self._left = pad_id, pad_type, padding_side == "left"
        self._tagged, self._class_weights = task.kind == "tagging", None
        if labels is None:
            self._num_labels = np.zeros(len(lengths), np.int64)
        elif self._tagged:
            scored = np.concatenate([[0], np.cumsum(labels != NOT_SCORED)])
            self._num_labels = scored[self._starts + lengths] - scored[self._starts]
        else:
            self._num_labels = np.ones(len(lengths), np.int64)

    @property
    def labelled(self) -> bool:
        """Whether the file has labels."""
        return self.examples.labels is not None

    def counts(self, indices) -> dict[str, int]:
        """What the loss terms of these rows average over: rows, real tokens, scored labels."""
        return {
            "examples": len(indices),
            "tokens": int(self.lengths[indices].sum()),
            "labels": int(self._num_labels[indices].sum()),
        }

    def collate(self, indices) -> Batch:
        """These rows as a batch, padded to the longest of them on the tokenizer's side."""
        indices = np.asarray(indices)
        lengths = self.lengths[indices]
        real_BL, flat = real_tokens(lengths, left=self._left), ranges(self._starts[indices], lengths)

        def tensor(values, filler):
            return torch.from_numpy(padded(values[flat], real_BL, filler))

        inputs = {
            "input_ids": tensor(self._ids, self._pad_id),
            "attention_mask": torch.from_numpy(real_BL.astype(np.int64)),
        }
        if self._types is not None:
            inputs["token_type_ids"] = tensor(self._types, self._pad_type)
        labels = None
        if self._labels is not None:
            labels = (
                tensor(self._labels, NOT_SCORED) if self._tagged else torch.from_numpy(self._labels[indices])
            )
        divisors = {name: float(number) for name, number in self.counts(indices).items()}
        return Batch(inputs, labels, indices, divisors, class_weights=self._class_weights)

    def weigh_classes(self):
        """Let each class count alike in the loss of training: a label counts N / (C n) where n of N scored
        labels are of its class and C classes are there (scikit-learn's "balanced"): the mean is 1."""
        labels = self._labels[self._labels != NOT_SCORED]
        counts = np.bincount(labels, minlength=len(self.task.label_names))
        weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        self._class_weights = torch.from_numpy(np.where(counts > 0, weights, 0.0)).float()

    def for_scoring(self, logits, mask) -> list[np.ndarray]:
        """What scoring needs of a batch's logits, row by row: float32 [C]; for tagging each real token's
        label id, int64 [L].

        logits: tensor [B, C] or [B, L, C].  mask: tensor [B, L] bool, True for real tokens.
        """
        if not self._tagged:
            return list(logits.cpu().numpy())
        labels, mask = logits.argmax(-1).cpu().numpy(), mask.cpu().numpy()
        return [row[real] for row, real in zip(labels, mask)]

    def predictions(self, outputs) -> list:
        """The model's answers per example: class ids, tuples of the ids of all labels that it has, scores, or
        for each sentence the label ids of its words.

        outputs: [N, number of labels] logits; for tagging N arrays with the predicted label id of each token
        of the row (specials included, padding not).  Raises RunError where logits are not finite.
        """
        assert len(outputs) == len(self), f"{len(outputs)} outputs for {len(self)} rows"
        if self._tagged:
            return self._tags_of_words(outputs)
        logits = np.asarray(outputs, np.float64).reshape(len(self), -1)
        if not np.isfinite(logits).all():
            raise RunError(
                f"{self.examples.split}: the model's outputs are not finite; its weights have diverged"
            )
        if self.task.kind == "multilabel":  # each label whose probability is above a half
            return [tuple(np.flatnonzero(row).tolist()) for row in logits > 0]
        return logits[:, 0].tolist() if self.task.kind == "regression" else logits.argmax(axis=1).tolist()

    def _tags_of_words(self, outputs):
        lengths = np.array([len(row) for row in outputs])
        assert np.array_equal(lengths, self.lengths), "each row needs one label per token, without padding"
        tags = np.concatenate(outputs)[self._first_pieces].tolist()
        sizes = [len(words) for words in self.examples.first]
        ends = np.cumsum(sizes).tolist()
        return [tags[end - size : end] for size, end in zip(sizes, ends)]

    def score(self, outputs) -> dict[str, float]:
        """The task's metrics by name; fractions in [0, 1], correlations in [-1, 1].  outputs: see
        predictions().

        Raises DataError for unlabelled data.
        """
        require_labels(self)
        task = self.task
        return metrics.score(
            task.metrics,
            self.readable(outputs),
            self.readable(),
            kind=task.kind,
            label_names=task.label_names,
        )

    def readable(self, outputs=None) -> list:
        """What is compared where outputs are scored: the predictions, without outputs the labels; tags by
        their names."""
        values = self.examples.labels if outputs is None else self.predictions(outputs)
        names = self.task.label_names
        return [[names[i] for i in sentence] for sentence in values] if self._tagged else values

    def write_submission(self, outputs, folder) -> Path:
        """Write the predictions as GLUE wants them (its file name, its label words; scores of test rows
        within the range of the labels); for tagging one word a line, the gold label where there is one, the
        prediction, or JSON lines with these lists where a word has a blank or line end in it.  Returns the
        path."""
        predicted, task = self.predictions(outputs), self.task
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self._tagged:
            name = f"{task.name}_{self.examples.split}"
            if all(map(tagged_words.fits_columns, itertools.chain.from_iterable(self.examples.first))):
                path, text = folder / f"{name}.txt", self._columns(predicted)
            else:
                path, text = folder / f"{name}.jsonl", self._lists(predicted)
        else:
            if task.kind == "regression" and self.examples.split in task.submissions:
                words = [f"{score:.3f}" for score in np.clip(predicted, *task.score_range)]
            elif task.kind == "regression":  # as they are scored
                words = [f"{score:.7g}" for score in predicted]
            else:
                words = [task.words(answer) for answer in predicted]
            path = folder / task.submissions.get(
                self.examples.split, f"{task.name}_{self.examples.split}.tsv"
            )
            text = "".join(
                f"{i}\t{word}\n" for i, word in [("index", "prediction"), *zip(self.examples.ids, words)]
            )
        files.write_text(path, text)
        return path

    def _columns(self, predicted):
        names, gold = self.task.label_names, self.examples.labels or [None] * len(predicted)
        blocks = []
        for words, tags, answers in zip(self.examples.first, predicted, gold):
            columns = [words, [names[i] for i in tags]]
            if answers is not None:
                columns.insert(1, [names[i] for i in answers])
            blocks.append("".join(" ".join(row) + "\n" for row in zip(*columns)))
        return "\n".join(blocks)

    def _lists(self, predicted):
        columns = {"index": self.examples.ids, "tokens": self.examples.first}
        if self.labelled:
            columns["label"] = self.readable()
        names = self.task.label_names
        columns["prediction"] = [[names[i] for i in tags] for tags in predicted]
        rows = (dict(zip(columns, row)) for row in zip(*columns.values()))
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def require_labels(split: Split):
    """Raise DataError where a split that is to be scored or trained on has no labels."""
    if not split.labelled:
        untabled = {"spans": "answers", "tagging": "a column of labels"}
        column = untabled.get(split.task.kind) or f"the column {', '.join(split.task.table.answers)}"
        raise DataError(
            f"{split.examples.path}:1: found no labels; expected {column}, because this file is to be "
            "scored; use --do_infer to get predictions for a file without labels"
        )


def real_tokens(lengths, *, left: bool) -> np.ndarray:
    """[B, L] bool, True for the tokens of rows of these lengths [B], padded to the longest on the left or the
    right."""
    longest = int(lengths.max())
    columns = np.arange(longest)
    return columns >= longest - lengths[:, None] if left else columns < lengths[:, None]


def padded(values, real_BL, filler: int) -> np.ndarray:
    """[B, L] int64: the values of all real tokens behind each other, put where real_BL is True, and filler
    elsewhere."""
    padded_BL = np.full(real_BL.shape, filler, np.int64)
    padded_BL[real_BL] = values
    return padded_BL


def flat(lists):
    """[N] int32: the numbers of all lists, behind each other."""
    return np.fromiter(itertools.chain.from_iterable(lists), np.int32)


def ranges(starts, lengths):
    """[start, start + length) of each row, behind each other."""
    offsets = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - offsets, lengths)


def _cut(indices, size):
    return [indices[start : start + size] for start in range(0, len(indices), size)]
