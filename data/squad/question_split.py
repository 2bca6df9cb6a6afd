"""Questions about a context, as windows of tokens (of context_windows.py): answers, scores, files of
predictions (SQuAD 2.0).

A row is a window: question and part of the context.  Q questions, N windows, T tokens of all contexts, L
tokens of a window. Source: TED (Liang et al. 2023), which follows the original BERT code.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from data.splits import Split, ranges, real_tokens, require_labels
from data.squad.best_spans import best_spans
from utils import answers, files
from utils.errors import RunError

NO_SPAN = float(np.finfo(np.float32).max)  # odds of a question whose windows hold nothing to answer with


@dataclass(frozen=True)
class SpanOptions:
    """How questions become windows, and scores answers.

    doc_stride: tokens of the context that two neighbouring windows share.  max_query_length,
    max_answer_length: tokens.
    num_best: starts and ends that are looked at in each window, and answers kept.  null_threshold: see
    Answers.
    """

    doc_stride: int
    max_query_length: int
    max_answer_length: int
    num_best: int
    null_threshold: float


@dataclass
class Answers:
    """The answers to Q questions.

    candidates: of each question (score, start logit, end logit, text), the best first, at most num_best.
    null: [Q] float, the score of having no answer: the smallest over the windows of start + end at [CLS].
    texts: [Q] of the best candidates; "" where there is none.
    odds: [Q] float, null minus the best candidate's score; the answer is "" where they exceed the threshold.
    """

    candidates: list
    null: np.ndarray

    def __post_init__(self):
        self.texts = [found[0][3] if found else "" for found in self.candidates]
        self.odds = [
            float(null) - found[0][0] if found else NO_SPAN for null, found in zip(self.null, self.candidates)
        ]

    def predictions(self, threshold: float) -> list[str]:
        """[Q] the answers."""
        return ["" if odds > threshold else text for text, odds in zip(self.texts, self.odds)]


class QuestionSplit(Split):
    """A split of windows.  Labels are the positions of the first and last token of the answer: [N, 2] in rows
    without padding."""

    def __init__(self, *args, options, owners, context_starts, begins, sizes, offsets, cls, **kwargs):
        """owners: [N] the question of each window, ascending.  context_starts: [N] where in the row the
        context begins.
        begins, sizes: [N] its first token among the T, how many.  offsets: [T, 2] first character and end of
        each token, without blanks.  cls: position of [CLS]."""
        super().__init__(*args, **kwargs)
        self.options, self._owners, self._begins, self._sizes = options, owners, begins, sizes
        self._context_starts, self._offsets, self._cls = context_starts, offsets, cls

    def collate(self, indices):
        """These windows as a batch; labels are positions in the padded rows."""
        batch = super().collate(indices)
        if batch.labels is not None and self._left:
            batch.labels += batch.inputs["input_ids"].shape[1] - batch.mask.sum(1, keepdim=True)
        return batch

    def for_scoring(self, logits, mask):
        """Start and end logits of each row's real tokens, float32 [L, 2].  logits: [B, L, 2].  mask: [B, L]
        bool."""
        return [row[real] for row, real in zip(logits.cpu().numpy(), mask.cpu().numpy())]

    def answers(self, outputs) -> Answers:
        """The answers to all questions.  outputs: N arrays [L, 2], see for_scoring().

        Within a window only spans of the context compete that begin and end in tokens with characters; see
        best_spans().
        Raises RunError where logits are not finite.
        """
        assert [len(row) for row in outputs] == self.lengths.tolist(), (
            "each row needs two logits per token, without padding"
        )
        logits = np.concatenate(outputs)  # [tokens of all rows, 2]
        if not np.isfinite(logits).all():
            raise RunError(
                f"{self.examples.split}: the model's outputs are not finite; its weights have diverged"
            )
        firsts = np.searchsorted(self._owners, range(len(self.examples)))  # the first window of each question
        null = np.minimum.reduceat(logits[self._starts + self._cls].sum(1), firsts)
        tokens = ranges(self._begins, self._sizes)
        allowed = self._offsets[tokens, 1] > self._offsets[tokens, 0]
        found = np.where(
            allowed[:, None], logits[ranges(self._starts + self._context_starts, self._sizes)], -np.inf
        )
        real_NL = real_tokens(self._sizes, left=False)
        start_NL, end_NL = np.full((2, *real_NL.shape), -np.inf, np.float32)
        start_NL[real_NL], end_NL[real_NL] = found.T
        options = {"num_best": self.options.num_best, "max_answer_length": self.options.max_answer_length}
        first_NK, last_NK, score_NK = best_spans(start_NL, end_NL, **options)
        windows, ranks = np.nonzero(score_NK > -np.inf)
        # Stable: windows in order where scores are equal
        order = np.lexsort((-score_NK[windows, ranks], self._owners[windows]))
        windows, ranks = windows[order], ranks[order]
        first, last = first_NK[windows, ranks], last_NK[windows, ranks]
        columns = (
            score_NK[windows, ranks],
            start_NL[windows, first],
            end_NL[windows, last],
            self._offsets[self._begins[windows] + first, 0],
            self._offsets[self._begins[windows] + last, 1],
        )
        rows = list(zip(*(column.tolist() for column in columns)))
        ends = np.searchsorted(self._owners[windows], range(len(self.examples) + 1)).tolist()
        candidates = [
            [
                (*scores, context[a:b])
                for *scores, a, b in rows[start : min(end, start + self.options.num_best)]
            ]
            for context, start, end in zip(self.examples.second, ends, ends[1:])
        ]
        return Answers(candidates, null)

    def predictions(self, outputs) -> list[str]:
        """The answer to each question, "" for none."""
        return self.answers(outputs).predictions(self.options.null_threshold)

    def score(self, outputs) -> dict[str, float]:
        """utils.answers.score of the answers.  Raises DataError for unlabelled data."""
        require_labels(self)
        found = self.answers(outputs)
        return answers.score(found.texts, found.odds, self.readable(), threshold=self.options.null_threshold)

    def readable(self, outputs=None) -> list:
        """The answers to the questions; without outputs the gold texts of each."""
        if outputs is None:
            return [[text for _, text in answer] for answer in self.examples.labels]
        return self.predictions(outputs)

    def write_submission(self, outputs, folder) -> Path:
        """Write three JSON files by question id: the answers, the n best with probabilities, the odds of
        having no answer.

        Returns the path of the answers, which the official evaluation script reads, as it does the odds
        (--na-prob-file).
        """
        found, folder, ids = self.answers(outputs), Path(folder), self.examples.ids
        folder.mkdir(parents=True, exist_ok=True)
        best = [self._best(candidates, float(null)) for candidates, null in zip(found.candidates, found.null)]
        contents = {
            "predictions": found.predictions(self.options.null_threshold),
            "nbest_predictions": best,
            "null_odds": found.odds,
        }
        for name, values in contents.items():
            files.write_json(
                folder / f"{self.task.name}_{self.examples.split}_{name}.json", dict(zip(ids, values))
            )
        return folder / f"{self.task.name}_{self.examples.split}_predictions.json"

    def _best(self, candidates, null):
        """The best answers with "" among them, which is never left out, and their probabilities."""
        entries = sorted([*candidates, (null, None, None, "")], key=lambda entry: -entry[0])
        kept = entries[: self.options.num_best]
        kept += [entry for entry in entries[self.options.num_best :] if entry[3] == ""]
        probabilities = softmax([entry[0] for entry in kept]).tolist()
        names = ("score", "start_logit", "end_logit", "text")
        return [{**dict(zip(names, entry)), "probability": p} for entry, p in zip(kept, probabilities)]
