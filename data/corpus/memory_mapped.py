"""Built corpora: blocks of token ids in memory-mapped Arrow, as training and evaluation take them.

    corpus = memory_mapped.open_corpus("outputs/corpus/wiki", tokenizer=tokenizer)
    train, heldout = corpus.hold_out_blocks(1024, at_least=256)
    for indices in train.epoch(seed, epoch, batch_size):
        batch = train.collate(indices)

A corpus folder (run_corpus.py makes it) holds blocks-*.arrow, which the datasets library opens, and
corpus.json: what the blocks are, with which tokenizer they were made, and how many.
N blocks, B blocks of a batch, L tokens.
"""

import time
from pathlib import Path

import numpy as np
import torch

from data.corpus import manifest
from data.splits import LengthGrouped, padded, real_tokens
from utils import files
from utils.batch import Batch
from utils.errors import DataError, FlagError
from utils.logs import logger

_HELDOUT_SEED = 0  # the same blocks are held out in every run


def open_corpus(path, *, tokenizer, max_length: int | None = None) -> "Corpus":
    """A built corpus.

    tokenizer: of the models that will read it.  max_length: tokens of a block that the user expects, None for
    whatever it has.
    The bytes of all files are compared with the hashes that corpus.json has, once, here: about 0.1 s for
    100 MB that are in the system's cache.
    Raises DataError for a folder that holds no whole corpus, CheckpointError where the tokenizer is another
    one than the corpus was made with, FlagError where the blocks are longer than asked for.
    """
    facts, folder = manifest.read_manifest(path), Path(path).expanduser()
    manifest.require_tokenizer(facts, tokenizer, path)
    if max_length is not None and max_length != facts["max_length"]:
        raise FlagError(
            f"--max_length: found {max_length}; the blocks of {path} have {facts['max_length']} tokens; "
            f"leave it out, or build a corpus with --max_seq_length {max_length}"
        )
    return Corpus(_Blocks(folder, facts), tokenizer, name=str(path))


def check_length(max_length: int, max_positions: int | None, what: str):
    """Raise FlagError where blocks are longer than what the models can take; None: they have no limit.

    what: says where max_length comes from, as the message begins.
    """
    if max_positions is not None and max_length > max_positions:
        raise FlagError(
            f"{what}: blocks of {max_length} tokens; the model takes at most {max_positions} positions; "
            f"use blocks of at most {max_positions} tokens"
        )


class _Blocks:
    """The blocks of all shards, cut out of the memory-mapped files without copying them."""

    def __init__(self, folder, facts):
        import pyarrow

        import datasets

        self.max_length = facts["max_length"]
        self._ids, self._seconds, self._offsets, sizes = [], [], [], []
        started = time.monotonic()
        for shard in facts["shards"]:
            file = folder / shard["file"]
            if not file.is_file():
                raise DataError(f"{file}: no such file; {manifest.NAME} lists it; build the corpus again")
            if (found := files.sha256(file)) != shard["sha256"]:
                raise DataError(
                    f"{file}: changed or damaged (SHA-256 {found[:12]}, {manifest.NAME} says "
                    f"{shard['sha256'][:12]}); expected what run_corpus.py wrote; build the corpus again"
                )
            try:
                table = datasets.Dataset.from_file(str(file)).data.table
            except (pyarrow.ArrowException, OSError) as error:
                raise DataError(
                    f"{file}: damaged ({error}); expected what run_corpus.py wrote; build the corpus again"
                ) from error
            for batch in table.to_batches():
                column = batch.column("input_ids")
                self._ids.append(column.values.to_numpy(zero_copy_only=True))
                self._offsets.append(column.offsets.to_numpy(zero_copy_only=True))
                if "second_start" in batch.schema.names:
                    self._seconds.append(batch.column("second_start").to_numpy(zero_copy_only=True))
                sizes.append(len(column))
        self._ends = np.cumsum(sizes)
        if sum(sizes) != facts["num_blocks"]:
            raise DataError(
                f"{folder}: found {sum(sizes)} blocks; {manifest.NAME} says {facts['num_blocks']}; build the "
                "corpus again"
            )
        self.lengths = np.concatenate([np.diff(offsets) for offsets in self._offsets]).astype(np.int64)
        if (longest := int(self.lengths.max())) > facts["max_length"]:
            raise DataError(
                f"{folder}: found a block of {longest} tokens; {manifest.NAME} says at most "
                f"{facts['max_length']}; build the corpus again"
            )
        logger.info(
            "%s: %d file(s), as they were written (SHA-256), in %.1f s",
            folder,
            len(facts["shards"]),
            time.monotonic() - started,
        )

    def __getitem__(self, block) -> tuple[np.ndarray, int]:
        """(ids [L], where the second segment begins: L where there is none) of a block."""
        part = int(np.searchsorted(self._ends, block, side="right"))
        row = block - (self._ends[part - 1] if part else 0)
        start, end = self._offsets[part][row], self._offsets[part][row + 1]
        return self._ids[part][start:end], int(self._seconds[part][row]) if self._seconds else end - start


class Corpus(LengthGrouped):
    """Blocks of a corpus, or a part of them.  lengths: [N] int64, tokens with specials."""

    def __init__(self, blocks, tokenizer, *, name, rows=None):
        """blocks: has lengths, and blocks[number] as _Blocks.  rows: [N] the block numbers of this part; all
        where None."""
        self._blocks, self._tokenizer, self._rows, self.name = blocks, tokenizer, rows, name
        self.lengths = blocks.lengths if rows is None else blocks.lengths[rows]

    @property
    def max_length(self) -> int:
        """Tokens of a full block."""
        return self._blocks.max_length

    def hold_out_blocks(self, num_heldout: int, *, at_least: int = 1) -> tuple["Corpus", "Corpus"]:
        """(train, heldout): a sample of num_heldout blocks, the same in every run, and all others.

        at_least: examples of one update.  Raises DataError where fewer blocks than that are left for
        training.
        """
        if len(self) - num_heldout < at_least:
            raise DataError(
                f"{self.name}: found {len(self)} blocks; expected {num_heldout} for --num_heldout_blocks and "
                f"at least {at_least} (one update) to train on; use more text, smaller batches or fewer "
                "held-out blocks"
            )
        if num_heldout > len(self) / 10:
            logger.info(
                "%s: %d of its %d blocks are held out and not trained on (--num_heldout_blocks)",
                self.name,
                num_heldout,
                len(self),
            )
        order = np.random.Generator(np.random.PCG64(_HELDOUT_SEED)).permutation(len(self))
        parts = np.sort(order[num_heldout:]), np.sort(order[:num_heldout])
        return tuple(Corpus(self._blocks, self._tokenizer, name=self.name, rows=rows) for rows in parts)

    def require_positions(self, max_positions: int | None):
        """Raise FlagError where blocks are longer than the models' longest input; None: it has no limit."""
        check_length(self.max_length, max_positions, self.name)

    def counts(self, indices) -> dict[str, int]:
        """What the loss terms of these blocks average over: blocks, real tokens."""
        return {"examples": len(indices), "tokens": int(self.lengths[indices].sum())}

    def collate(self, indices) -> Batch:
        """These blocks as a batch without labels, padded to the longest of them on the tokenizer's side."""
        indices = np.asarray(indices)
        rows = indices if self._rows is None else self._rows[indices]
        return batch_of([self._blocks[row] for row in rows], self._tokenizer, indices)


def batch_of(blocks, tokenizer, indices) -> Batch:
    """A batch without labels.  blocks: [(ids, where the second segment begins)]."""
    lengths = np.array([len(ids) for ids, _ in blocks])
    real_BL = real_tokens(lengths, left=tokenizer.padding_side == "left")
    ids = np.concatenate([ids for ids, _ in blocks])
    inputs = {
        "input_ids": torch.from_numpy(padded(ids, real_BL, tokenizer.pad_token_id)),
        "attention_mask": torch.from_numpy(real_BL.astype(np.int64)),
    }
    if "token_type_ids" in tokenizer.model_input_names:
        types = np.concatenate([np.arange(len(ids)) >= second for ids, second in blocks])
        inputs["token_type_ids"] = torch.from_numpy(padded(types, real_BL, tokenizer.pad_token_type_id))
    return Batch(inputs, None, indices, {"examples": float(len(blocks)), "tokens": float(lengths.sum())})
