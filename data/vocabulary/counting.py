"""The text by which pieces are chosen, the text that is kept apart from it, and how often pieces occur.

Of a task, train is counted and dev kept apart; of a corpus, one document in APART is.  P pieces.
"""

import itertools

import numpy as np

from data import hold_out
from data.corpus import documents
from data.model_tokenizer import plain_backend
from data.vocabulary.trimmed import trimmed_backend
from utils import interruptions
from utils.errors import DataError

APART = 20
_MOST_APART = 5000  # documents: they are held in memory, and encoded for each point of a picture
_CHUNK = 1000  # texts handed to the tokenizer at once


def task_texts(task, data_dir, *, share=0.0):
    """(texts of train, texts of dev) of a task, as lists.  share: of train that is held out, and not counted.

    Sentences that come as words are joined by blanks.  Raises DataError.
    """
    train = task.read(data_dir, "train")
    if share:
        train = train.take(hold_out.separate(train, share, kind=task.kind)[1])
    apart = [task.read(data_dir, split) for split in task.available_eval_splits(data_dir)]
    return _texts(train), [text for examples in apart for text in _texts(examples)]


def _texts(examples):
    columns = [column for column in (examples.first, examples.second) if column is not None]
    return [text if isinstance(text, str) else " ".join(text) for column in columns for text in column]


def corpus_texts(sources, *, most=None):
    """(an iterator over the documents that are counted, a list of those that are kept apart).

    sources: data.corpus.documents.Source.  most: documents read; all.  Raises DataError.
    """

    def read(apart):
        texts = itertools.islice(documents.read_documents(sources), most)
        return (text for number, text in enumerate(texts) if text and (number % APART == 1) == apart)

    return read(False), [*itertools.islice(read(True), _MOST_APART)]


def count(backend, texts, size: int) -> np.ndarray:
    """[P] int64: how often each piece occurs in texts, without special tokens.

    backend: a tokenizer's own, without truncation.  size: P.
    """
    counts_P, texts = np.zeros(size, np.int64), iter(texts)
    while chunk := [*itertools.islice(texts, _CHUNK)]:
        interruptions.check()
        encodings = backend.encode_batch_fast(chunk, add_special_tokens=False)
        ids = [np.array(encoding.ids, np.int64) for encoding in encodings]
        counts_P += np.bincount(np.concatenate(ids), minlength=size)
    return counts_P


class Apart:
    """Text that is kept apart, and what smaller vocabularies make of it.

    texts: as a list.  counts_P: its pieces.
    """

    def __init__(self, tokenizer, pieces, texts):
        self.texts, self._tokenizer, self._pieces = texts, tokenizer, pieces
        self.counts_P = count(plain_backend(tokenizer), texts, pieces.size)

    def row(self, kept) -> dict:
        """{"pieces", "covered": share of the text's tokens whose piece stays, "growth": tokens, as a multiple
        of those before, "unknown": tokens, "unknown_before"} of a vocabulary.  kept: ids."""
        after_P = count(trimmed_backend(self._tokenizer, self._pieces, kept), self.texts, len(kept))
        unknown = self._pieces.unknown
        is_there = unknown is not None
        return {
            "pieces": len(kept),
            "covered": float(self.counts_P[kept].sum() / self.counts_P.sum()),
            "growth": float(after_P.sum() / self.counts_P.sum()),
            "unknown": int(after_P[np.searchsorted(kept, unknown)]) if is_there else 0,
            "unknown_before": int(self.counts_P[unknown]) if is_there else 0,
        }

    def curve(self, counts_P) -> list[dict]:
        """row() of vocabularies of evenly spaced sizes, from what must stay to all pieces.  counts_P: that
        choose."""
        smallest, largest = len(self._pieces.required), len({*self._pieces.ids.values()})
        sizes = np.unique(np.geomspace(smallest, largest, 7).round().astype(int))
        return [self.row(self._pieces.chosen(counts_P, size=int(size))) for size in sizes]


def require_tokens(counts: dict, apart):
    """Raise DataError where a source has no text to count, or there is none that is kept apart.  counts:
    {source: [P]}."""
    for source, counts_P in counts.items():
        if not counts_P.sum():
            raise DataError(
                f"--{source}: found no text to count; expected some, to tell which pieces it needs"
            )
    if not apart:
        raise DataError(
            "--corpus: found one document; expected more, as some are not counted, to see what becomes of "
            "them; --sample_by paragraph or line cuts a plain text into several"
        )


def weighted(counts: dict, weights: dict) -> np.ndarray:
    """[P] float64: what a piece's occurrences weigh in all sources.

    counts: {source: [P]}.  weights: {source: what an occurrence in it counts, or None}; None: so that all its
    occurrences weigh as much as those of the largest source.
    """
    largest = max(counts_P.sum() for counts_P in counts.values())
    total_P = 0.0
    for source, counts_P in counts.items():
        weight = weights.get(source)
        total_P = total_P + counts_P * (largest / max(counts_P.sum(), 1) if weight is None else weight)
    return total_P
