"""Building a corpus: chunks of documents are tokenised by worker processes, then put together in their order.

    layout = layout_of(tokenizer, kind="packed", max_length=128)
    build.write_chunks(documents, layout, folder=state, num_workers=4)
    result = build.assemble(state, run_folder, layout)

Every chunk is a file of its own, whole or absent: a build that was killed does only those that are missing.
The chunks, and so the corpus, depend on the documents alone.
"""

import itertools
import json
import multiprocessing
import os
import threading
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np

from data.corpus import blocks
from utils import files, interruptions
from utils.errors import DataError

_SHARD = 1 << 27  # tokens of a file of the corpus; characters of one of sentences


def require_a_block(documents, layout):
    """Raise DataError where the documents make no block; enough of them are encoded to see that one is
    made."""
    if layout.kind == "sentences":
        return
    found, num_tokens = _first_block(documents, layout)
    if found:
        return
    raise DataError(
        f"--input: found {num_tokens} tokens in all documents together; expected at least "
        f"{layout.room if layout.cross else 1}, which make a block, and for pairs two sentences; use more "
        "text or a smaller --max_seq_length"
    )


def few(documents, layout, number: int) -> list[str]:
    """The first `number` documents, doubled until they make a block, or for sentences until there is text;
    all where they never do."""
    documents = iter(documents)
    taken = list(itertools.islice(documents, number))
    while not _first_block(taken, layout)[0]:
        more = list(itertools.islice(documents, len(taken)))
        if not more:
            break
        taken += more
    return taken


def _first_block(documents, layout):
    """(whether documents make a block, or for sentences hold any text; the number of tokens of those that
    were encoded to see it, with the separators of a stream)."""
    if layout.kind == "sentences":
        return any(map(str.strip, documents)), 0
    tokenizer, num_tokens = blocks.CachedTokenizer(layout), 0
    for _, first, texts in blocks.chunks(documents, size=blocks.CHUNK):
        arrays, counts = blocks.encode_chunk(texts, first, layout=layout, tokenizer=tokenizer)
        if "lengths" in arrays:
            num_tokens += counts["tokens"]
            found = len(arrays["lengths"]) > 0
        else:  # a stream, as assemble() cuts it: without the separator in front
            num_tokens += len(arrays["ids"]) - (num_tokens == 0 and len(arrays["ids"]) > 0)
            found = num_tokens >= layout.room
        if found:
            return True, num_tokens
    return False, num_tokens


# ---- Chunks, in worker processes

_worker = {}


def _begin(layout):
    """A worker's start: it ends with the main process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    _prepare(layout)


def _prepare(layout):
    _worker.update(layout=layout, tokenizer=blocks.CachedTokenizer(layout) if layout.backend else None)


def _write_chunk(path, first, texts):
    arrays, counts = blocks.encode_chunk(texts, first, **_worker)
    if "ids" in arrays and len(arrays["ids"]) and arrays["ids"].max() < 1 << 16:
        arrays["ids"] = arrays["ids"].astype(np.uint16)
    with files.new_file(path) as aside, open(aside, "wb") as file:
        np.savez(file, counts=json.dumps(counts), **arrays)
    return sum(map(len, texts))


def write_chunks(
    documents,
    layout,
    *,
    folder: Path,
    num_workers: int,
    size: int = blocks.CHUNK,
    progress=lambda characters: None,
):
    """Tokenise all chunks whose files are not in folder yet.

    size: characters of a chunk.  progress: called in the main process with the number of characters done, now
    and then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.clean(folder, lambda name: name.endswith(".npz"))
    jobs = (
        (folder / f"{number:06}.npz", first, texts)
        for number, first, texts in blocks.chunks(documents, size=size)
    )
    with closing(jobs):
        if num_workers == 1:
            _prepare(layout)
            for job in jobs:
                progress(_size(job) if job[0].exists() else _write_chunk(*job))
            return
        # A fork would copy the threads' locks of what has been imported
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_begin, initargs=(layout,))
        try:
            pending = deque()
            for job in jobs:
                if job[0].exists():
                    progress(_size(job))
                    continue
                # This starts the workers, which leave interruptions to this process
                with interruptions.blocked():
                    pending.append(pool.submit(_write_chunk, *job))
                if len(pending) > 2 * num_workers:
                    progress(pending.popleft().result())
            for future in pending:
                progress(future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _size(job):
    return sum(map(len, job[2]))


# ---- The corpus


def assemble(state: Path, folder: Path, layout) -> dict:
    """Put the chunks in state together to the corpus files in folder; returns {"counts", "shards"}, the
    latter of blocks."""
    chunks = sorted(state.glob("*.npz"))
    counts, rest, seen = Counter(), np.empty(0, np.int32), False
    writer = _Sentences(folder / "sentences") if layout.kind == "sentences" else _Shards(folder, layout)
    for path in chunks:
        with np.load(path) as chunk:
            counts.update(json.loads(str(chunk["counts"])))
            if layout.kind == "sentences":
                writer.add(chunk["text"])
            elif layout.kind == "packed" and layout.cross:
                ids = chunk["ids"]
                if not seen and len(ids):
                    seen, ids = True, ids[1:]  # the separator in front of the first document
                blocks_NL, rest = blocks.packed_blocks(np.concatenate([rest, ids]), layout)
                writer.add(blocks_NL.reshape(-1), np.full(len(blocks_NL), layout.max_length))
            else:
                writer.add(chunk["ids"], chunk["lengths"], chunk.get("second_starts"))
    if layout.kind == "packed" and layout.cross:
        counts["tokens_left_over"] = len(rest)
    shards = writer.close()
    return {
        "counts": {**counts, "blocks": writer.num_blocks, "block_tokens": writer.num_tokens},
        "shards": shards,
    }


class _Shards:
    """Arrow files with the columns input_ids and, for pairs, second_start, as the datasets library reads
    them."""

    def __init__(self, folder, layout):
        from tokenizers import Tokenizer

        import datasets

        size = Tokenizer.from_str(layout.backend).get_vocab_size()
        kind = datasets.Value("uint16" if size <= 1 << 16 else "int32")
        self._dtype = np.dtype(kind.dtype)
        columns = {"input_ids": datasets.List(kind)}
        if layout.kind == "pairs":
            columns["second_start"] = datasets.Value("uint16")
        self._features = datasets.Features(columns)
        self._folder, self._writer, self._shards = folder, None, []
        self.num_blocks = self.num_tokens = self._held = 0

    def add(self, ids, lengths, second_starts=None):
        """Append blocks: ids [T], lengths [N], second_starts [N] for pairs."""
        import pyarrow
        from datasets.arrow_writer import ArrowWriter

        if not len(lengths):
            return
        if self._writer is None:
            self._path = self._folder / f"blocks-{len(self._shards):05}.arrow"
            self._writer, self._held = ArrowWriter(path=str(self._path), features=self._features), 0
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        columns = {"input_ids": pyarrow.ListArray.from_arrays(offsets, np.asarray(ids, self._dtype))}
        if second_starts is not None:
            columns["second_start"] = pyarrow.array(second_starts, pyarrow.uint16())
        self._writer.write_table(pyarrow.table(columns), len(lengths))
        self.num_blocks += len(lengths)
        self.num_tokens += len(ids)
        self._held += len(ids)
        if self._held >= _SHARD:
            self._end()

    def _end(self):
        number, _ = self._writer.finalize()
        self._writer = None
        self._shards.append({"file": self._path.name, "blocks": number, "sha256": files.sha256(self._path)})

    def close(self) -> list[dict]:
        """Finish the last file; returns {file, blocks, sha256} of each."""
        if self._writer is not None:
            self._end()
        return self._shards


class _Sentences:
    """Text files with a sentence on each line and a blank line after each document."""

    num_blocks = num_tokens = 0

    def __init__(self, folder):
        files.remove(folder)
        folder.mkdir()
        self._folder, self._number, self._held = folder, 0, 0

    def add(self, text):
        """Append UTF-8 bytes [T], whole documents."""
        with open(self._folder / f"{self._number:05}.txt", "ab") as file:
            file.write(text.tobytes())
        self._held += len(text)
        if self._held >= _SHARD:
            self._number, self._held = self._number + 1, 0

    def close(self) -> list:
        """There are no shards of blocks."""
        return []
