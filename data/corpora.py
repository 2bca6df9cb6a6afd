"""Built corpora: blocks of token ids in memory-mapped Arrow, as training and evaluation take them.

    corpus = corpora.open("outputs/corpus/wiki", tokenizer=tokenizer, max_positions=512)
    train, heldout = corpus.split(1024, at_least=256)
    for indices in train.epoch(seed, epoch, batch_size):
        batch = train.collate(indices)

A corpus folder (run_corpus.py makes it) holds blocks-*.arrow, which the datasets library opens, and corpus.json: what the blocks
are, with which tokenizer they were made, and how many.
N blocks, B blocks of a batch, L tokens.
"""

import json
from pathlib import Path

import numpy as np
import torch

from data.pipelines import tokenizer_hash
from data.splits import LengthGrouped, padded, real_tokens
from utils import distributed, files, flags
from utils.batch import Batch
from utils.errors import CheckpointError, DataError, FlagError
from utils.runs import DRY_RUN_ROWS

CARD = "corpus.json"
_HELDOUT_SEED = 0  # the same blocks are held out in every run


def is_built(path) -> bool:
    """Whether a path is the folder of a finished corpus."""
    return (Path(path).expanduser() / CARD).is_file() and (Path(path).expanduser() / "args.json").is_file()


def read_card(path) -> dict:
    """corpus.json of a corpus folder.  Raises DataError where there is none, or another file of that name."""
    folder = Path(path).expanduser()
    if not (folder / CARD).is_file():
        if (folder / "args.json").is_file():
            raise DataError(f"{path}: this corpus has not been built to its end; give its command again, it continues")
        raise DataError(f"{path}: found no {CARD}; expected a corpus folder made by run_corpus.py, or --streaming for raw text")
    try:
        card = files.read_json(folder / CARD)
        return {**card, **{key: card[key] for key in ("tokenizer", "blocks", "max_length", "num_blocks", "shards")}}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{folder / CARD}:1: damaged ({error!r}); expected what run_corpus.py wrote; build it again") from error


def write_card(folder, tokenizer, layout, result: dict, *, args):
    """Write corpus.json, which makes a folder a corpus: what building.assemble() returned, the tokenizer, and all settings."""
    card = {
        "blocks": layout.kind,
        "max_length": layout.max_length,
        "num_blocks": result["counts"]["blocks"],
        "tokenizer": {"name": args.tokenizer_name_or_path, "size": len(tokenizer), "hash": tokenizer_hash(tokenizer)},
        **result,
        "settings": flags.settings(args),
    }
    files.write_json(Path(folder) / CARD, card)


def open(path, *, tokenizer, max_length: int | None = None, max_positions: int | None = None) -> "Corpus":
    """A built corpus.

    tokenizer: of the models that will read it.  max_length: tokens of a block that the user expects, None for whatever it has.
    max_positions: the longest input that these models can take; None where there is no limit.
    Raises DataError for a folder that holds no whole corpus, CheckpointError where the tokenizer is another one than the
    corpus was made with, FlagError where the blocks are longer than max_positions or than asked for.
    """
    card, folder = read_card(path), Path(path).expanduser()
    check_tokenizer(card, tokenizer, path)
    check_length(card["max_length"], max_positions, f"{path}: ")
    if max_length is not None and max_length != card["max_length"]:
        raise FlagError(
            f"--max_length: found {max_length}; the blocks of {path} have {card['max_length']} tokens; leave it out, or build "
            f"a corpus with --max_seq_length {max_length}"
        )
    return Corpus(_Blocks(folder, card), tokenizer, name=str(path))


def check_tokenizer(card, tokenizer, path):
    """Raise CheckpointError where a corpus was made with a tokenizer of another vocabulary."""
    made, ours = card["tokenizer"], tokenizer_hash(tokenizer)
    if made["hash"] != ours:
        raise CheckpointError(
            f"{path}: made with the tokenizer of {made['name']} ({made['size']} pieces, hash {made['hash'][:12]}); the model's "
            f"has {len(tokenizer)} pieces, hash {ours[:12]}; the same ids mean other pieces: build the corpus with "
            f"--tokenizer_name_or_path of this model"
        )


def check_length(max_length: int, max_positions: int | None, what: str = ""):
    """Raise FlagError where blocks are longer than what the models can take."""
    if max_positions is not None and max_length > max_positions:
        raise FlagError(
            f"{what}blocks of {max_length} tokens; the model takes at most {max_positions} positions; "
            f"use blocks of at most {max_positions} tokens"
        )


class _Blocks:
    """The blocks of all shards, cut out of the memory-mapped files without copying them."""

    def __init__(self, folder, card):
        import pyarrow

        import datasets

        self._ids, self._seconds, self._offsets, sizes = [], [], [], []
        for shard in card["shards"]:
            file = folder / shard["file"]
            if not file.is_file():
                raise DataError(f"{file}: no such file; {CARD} lists it; build the corpus again")
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
        if sum(sizes) != card["num_blocks"]:
            raise DataError(f"{folder}: found {sum(sizes)} blocks; {CARD} says {card['num_blocks']}; build the corpus again")
        self.lengths = np.concatenate([np.diff(offsets) for offsets in self._offsets]).astype(np.int64)

    def __getitem__(self, block) -> tuple[np.ndarray, int]:
        """(ids [L], where the second segment begins: L where there is none) of a block."""
        part = int(np.searchsorted(self._ends, block, side="right"))
        row = block - (self._ends[part - 1] if part else 0)
        start, end = self._offsets[part][row], self._offsets[part][row + 1]
        return self._ids[part][start:end], int(self._seconds[part][row]) if self._seconds else end - start


class Corpus(LengthGrouped):
    """Blocks of a corpus, or a part of them.  lengths: [N] int64, tokens with specials."""

    def __init__(self, blocks, tokenizer, *, name, rows=None):
        """blocks: has lengths, and blocks[number] as _Blocks.  rows: [N] the block numbers of this part; all where None."""
        self._blocks, self._tokenizer, self._rows, self.name = blocks, tokenizer, rows, name
        self.lengths = blocks.lengths if rows is None else blocks.lengths[rows]

    def split(self, num_heldout: int, *, at_least: int = 1) -> tuple["Corpus", "Corpus"]:
        """(train, heldout): a sample of num_heldout blocks, the same in every run, and all others.

        at_least: examples of one update.  Raises DataError where fewer blocks than that are left for training.
        """
        if len(self) - num_heldout < at_least:
            raise DataError(
                f"{self.name}: found {len(self)} blocks; expected {num_heldout} for --num_heldout_blocks and at least "
                f"{at_least} (one update) to train on; use more text, smaller batches or fewer held-out blocks"
            )
        order = np.random.Generator(np.random.PCG64(_HELDOUT_SEED)).permutation(len(self))
        parts = np.sort(order[num_heldout:]), np.sort(order[:num_heldout])
        return tuple(Corpus(self._blocks, self._tokenizer, name=self.name, rows=rows) for rows in parts)

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


def from_flags(args, tokenizer, *, max_positions: int | None):
    """What --corpus names: a built Corpus, or with --streaming a Stream; both have split(), then counts, collate and epoch.

    args: resolved, with corpus_flags.corpus and flags.training, after runs.start().  Raises like open() and documents.find().
    """
    if not args.streaming:
        return open(args.corpus[0], tokenizer=tokenizer, max_length=args.max_length, max_positions=max_positions)
    from data import documents, streams

    max_length = args.max_length or streams.MAX_LENGTH
    check_length(max_length, max_positions, "--max_length: ")
    sources = documents.find(args.corpus, format=args.corpus_format, columns=args.columns, sample_by=args.sample_by)
    return streams.Stream(
        sources, tokenizer, max_length=max_length, seed=args.seed, buffer=args.shuffle_buffer or streams.BUFFER,
        batch_size=args.per_device_train_batch_size, num_updates=args.max_steps, num_accumulated=args.num_grad_accum_steps,
    )  # fmt: skip


def parts(args, tokenizer, *, max_positions: int | None):
    """(train, heldout) of what --corpus names.  Arguments and errors: as from_flags() and split()."""
    corpus = from_flags(args, tokenizer, max_positions=max_positions)
    per_update = args.per_device_train_batch_size * args.num_grad_accum_steps * distributed.world()
    return corpus.split(DRY_RUN_ROWS if args.dry_run else args.num_heldout_blocks, at_least=per_update)


def inputs(args) -> dict:
    """What runs.start() records of --corpus: the hash of a built corpus's card, or those of the text files."""
    if not args.streaming:
        read_card(args.corpus[0])
        return {"corpus": [Path(args.corpus[0]).expanduser() / CARD]}
    from data import documents

    for path in args.corpus:
        if is_built(path):
            raise FlagError(f"--streaming: {path} is a built corpus; leave --streaming out")
    sources = documents.find(args.corpus, format=args.corpus_format, columns=args.columns, sample_by=args.sample_by)
    return {"corpus": documents.hashes(sources, download=False)}
