"""Training straight from text files or URLs: packed blocks, made while they are asked for.

    train, heldout = StreamedCorpus(sources, tokenizer, max_length=128, ...).hold_out_blocks(512)

Documents are read in their order, in chunks; process p of W tokenises and packs the chunks p, p + W, ..., so
no two see the same block, together they see all of them, and which blocks there are does not depend on W.
Each draws its next block from a buffer, by (seed, pass, process).  After the last document the next pass
begins.  A position is found again by reading forward from the start.  A built corpus (run_corpus.py) shuffles
truly, resumes at once, and drops one short block, not one per chunk.
"""

import numpy as np

from data.corpus import blocks, documents
from data.corpus.layout import layout_of
from data.corpus.memory_mapped import Corpus, batch_of, check_length
from utils import distributed
from utils.errors import DataError
from utils.logs import logger

MAX_LENGTH = 128
BUFFER = 10_000
_CHUNK = 200_000  # characters, about 350 blocks of 128 tokens


class StreamedCorpus:
    """What a training loop takes, as long as num_updates updates of num_accumulated micro-batches of
    batch_size per process."""

    def __init__(
        self,
        sources,
        tokenizer,
        *,
        max_length: int,
        seed: int,
        batch_size: int,
        num_updates: int,
        num_accumulated: int = 1,
        buffer: int = BUFFER,
    ):
        """sources: of documents.find_sources().  Raises like layout_of()."""
        self.max_length = max_length
        self._sources, self._tokenizer, self._seed, self._buffer = sources, tokenizer, seed, buffer
        self._layout = layout_of(tokenizer, kind="packed", max_length=max_length)
        self._cached_tokenizer = blocks.CachedTokenizer(self._layout)
        self._rank, self._world, self._batch_size = distributed.rank(), distributed.world(), batch_size
        self._length = num_updates * num_accumulated * batch_size * self._world
        self._heldout = {}  # chunk number: how many of its first blocks are held out
        # An iterator over this process's blocks, and the number of its next one
        self._upcoming, self._next = None, 0

    def __len__(self):
        return self._length

    def hold_out_blocks(self, num_heldout: int, *, at_least: int = 1) -> tuple["StreamedCorpus", Corpus]:
        """(train, heldout): the first num_heldout blocks are held out; training never sees them.

        at_least: examples of one update.  Raises DataError where the text has fewer blocks than both
        together, or where a process would be left without any.
        """
        held, found, fed = [], 0, set()
        for number, packed_NL in self._chunks(every=True):
            taken = min(len(packed_NL), num_heldout - len(held))
            held += [(row, len(row)) for row in packed_NL[:taken]]
            if taken:
                self._heldout[number] = taken
            if taken < len(packed_NL):
                fed.add(number % self._world)
            found += len(packed_NL)
            if found >= num_heldout + at_least and len(fed) == self._world:
                return self, Corpus(_Memory(held), self._tokenizer, name=self._sources[0].path)
        parts = (
            "" if found < num_heldout + at_least else f", in chunks for {len(fed)} of {self._world} processes"
        )
        raise DataError(
            f"{self._sources[0].path}: found {found} blocks of {self.max_length} tokens{parts}; expected "
            f"{num_heldout} for --num_heldout_blocks and at least {at_least} (one update) to train on; use "
            "more text, smaller batches, or build a corpus with run_corpus.py"
        )

    def require_positions(self, max_positions: int | None):
        """Raise FlagError where blocks are longer than the models' longest input; None: it has no limit."""
        check_length(self.max_length, max_positions, "--max_length")

    def counts(self, indices) -> dict[str, int]:
        """What the loss terms of these blocks average over: blocks, tokens.  All blocks are full."""
        return {"examples": len(indices), "tokens": len(indices) * self.max_length}

    def epoch(self, seed: int, epoch: int, batch_size: int) -> "_Consecutive":
        """The positions of each update.  There is one epoch, and its order is that of the stream."""
        assert (seed, epoch) == (self._seed, 0), "a stream is as long as the run and has the run's seed"
        return _Consecutive(self._length, batch_size)

    def collate(self, indices):
        """The blocks at these positions, all of them this process's, as a batch."""
        indices = np.asarray(indices)
        turn, offset = np.divmod(indices, self._batch_size)
        assert (turn % self._world == self._rank).all(), "another process's blocks"
        numbers = turn // self._world * self._batch_size + offset
        return batch_of([(ids, len(ids)) for ids in map(self._block, numbers)], self._tokenizer, indices)

    def _block(self, number):
        """This process's block of a number.  Numbers ascend; after a restart the first one may be any."""
        if number < self._next or self._upcoming is None:
            self._upcoming, self._next = self._shuffled(), 0
        if number > self._next:
            logger.info("stream: reading forward over %d blocks", number - self._next)
        while True:
            block = next(self._upcoming)
            self._next += 1
            if self._next > number:
                return block

    def _shuffled(self):
        """This process's blocks, pass after pass."""
        repeat = 0
        while True:
            random = np.random.Generator(
                np.random.PCG64(np.random.SeedSequence([self._seed, repeat, self._rank]))
            )
            waiting = []
            for _, packed_NL in self._chunks():
                for block in packed_NL:
                    if len(waiting) < self._buffer:
                        waiting.append(block)
                        continue
                    drawn = int(random.integers(self._buffer))
                    yield waiting[drawn]
                    waiting[drawn] = block
            for drawn in random.permutation(len(waiting)):
                yield waiting[drawn]
            repeat += 1
            logger.info("stream: pass %d begins", repeat + 1)

    def _chunks(self, *, every=False):
        """(number, blocks [N, max_length]) of this process's chunks, or of all, without what is held out."""
        for number, first, texts in blocks.chunks(documents.read_documents(self._sources), size=_CHUNK):
            if every or number % self._world == self._rank:
                arrays, _ = blocks.encode_chunk(
                    texts, first, layout=self._layout, tokenizer=self._cached_tokenizer
                )
                # Without the separator in front
                packed_NL, _ = blocks.packed_blocks(arrays["ids"][1:], self._layout)
                yield number, packed_NL[self._heldout.get(number, 0) :]


class _Consecutive:
    """Positions 0, 1, ... in batches, without a list of them all."""

    def __init__(self, length, batch_size):
        self._length, self._batch_size = length, batch_size

    def __len__(self):
        return -(-self._length // self._batch_size)

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        return np.arange(number * self._batch_size, min(self._length, (number + 1) * self._batch_size))


class _Memory:
    """Blocks as memory_mapped.Corpus takes them."""

    def __init__(self, held):
        self._held = held
        self.lengths = np.array([len(ids) for ids, _ in held], np.int64)

    def __getitem__(self, number):
        return self._held[number]
