"""Documents to blocks of token ids: packed out of one stream, or segment pairs.  Runs in worker processes, so
without torch.

T tokens of a chunk of documents, N blocks.  A chunk is what one worker handles at a time; chunks are cut from
the documents alone, so that nothing depends on the number of workers.
"""

import itertools
import random

import numpy as np

from data.corpus import sentences
from data.corpus.layout import Layout

CHUNK = 2_000_000  # characters; also the buffer that random second segments are drawn from
_CACHED_WORDS = 1_000_000  # bounds the memory, to about 200 MB
_GROUP = 100  # words handed to the tokenizer as one text: half the time of one by one
_SHORT = 0.1  # share of pairs with a random target length
_RANDOM = 0.5  # share of pairs whose second segment comes from another document


def chunks(documents, *, size: int):
    """(number, number of the first document, texts): whole documents that together have at least so many
    characters."""
    texts, held, first, number = [], 0, 0, 0
    for text in documents:
        texts.append(text)
        held += len(text)
        if held >= size:
            yield number, first, texts
            number, first, texts, held = number + 1, first + len(texts), [], 0
    if texts:
        yield number, first, texts


class CachedTokenizer:
    """Texts to token ids.  Each distinct word is tokenised once: words repeat, and the tokenizer's own work
    is most of the time.

    Words are what white space separates.  The ids are those of the whole text with one blank in front of each
    word, wherever the tokenizer cuts a text at blanks before anything else (by_word); one that does not is
    given whole lines.
    """

    def __init__(self, layout: Layout):
        from tokenizers import Tokenizer

        self._backend, self._prefix, self._by_word = (
            Tokenizer.from_str(layout.backend),
            layout.prefix,
            layout.by_word,
        )
        self._forget()

    def _forget(self):
        self._numbers = {"": 0}  # of the words seen; their ids lie behind each other
        self._ids, self._sizes = np.empty(0, np.int32), np.zeros(1, np.int64)

    def __call__(self, texts) -> tuple[np.ndarray, np.ndarray]:
        """(ids of all texts [T] int32, without special tokens; lengths [number of texts] int64)."""
        import pyarrow
        from pyarrow import compute

        if self._by_word:
            words = compute.utf8_split_whitespace(pyarrow.array(texts, pyarrow.large_string()))
        else:
            lines = ["\n".join(" ".join(line.split()) for line in text.split("\n")) for text in texts]
            words = compute.split_pattern(pyarrow.array(lines, pyarrow.large_string()), "\n")
        bounds, coded = words.offsets.to_numpy(), words.flatten().dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        if len(self._numbers) + len(distinct) > _CACHED_WORDS:
            self._forget()
        self._learn([word for word in distinct if word not in self._numbers])
        numbers = np.fromiter(map(self._numbers.__getitem__, distinct), np.int64, len(distinct))[
            coded.indices.to_numpy()
        ]
        sizes = self._sizes[numbers]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        starts = np.cumsum(self._sizes) - self._sizes
        return self._ids[np.repeat(starts[numbers] - ends[:-1], sizes) + np.arange(ends[-1])], np.diff(
            ends[bounds]
        )

    def _learn(self, words):
        parts, sizes = [self._ids], [self._sizes]
        for start in range(0, len(words), _GROUP * 100):
            some = words[start : start + _GROUP * 100]
            groups = [
                [self._prefix + word for word in some[i : i + _GROUP]] for i in range(0, len(some), _GROUP)
            ]
            for group, encoding in zip(
                groups, self._backend.encode_batch(groups, is_pretokenized=True, add_special_tokens=False)
            ):
                parts.append(np.array(encoding.ids, np.int32))
                sizes.append(np.bincount(np.array(encoding.word_ids, np.int64), minlength=len(group)))
        self._numbers.update(zip(words, range(len(self._numbers), len(self._numbers) + len(words))))
        self._ids, self._sizes = np.concatenate(parts), np.concatenate(sizes)


def encode_chunk(
    texts, first: int, *, layout: Layout, tokenizer: CachedTokenizer | None
) -> tuple[dict, dict]:
    """(arrays, counts) of a chunk.  first: the number of its first document.

    arrays: packed across documents: ids [T], the stream, with a separator in front of each document.  Else
    blocks, specials included: ids [T], lengths [N]; for pairs second_starts [N], where the second segment
    begins.  Sentences: text, UTF-8 bytes.
    """
    counts = {
        "documents": len(texts),
        "empty_documents": sum(not text for text in texts),
        "lines": sum(text.count("\n") + bool(text) for text in texts),
        "words": sum(len(text.split()) for text in texts),
    }
    if layout.kind == "sentences":
        parts = [part for part in (_sentences(text, layout) for text in texts) if part]
        counts["sentences"] = sum(map(len, parts))
        text = "".join("\n".join(part) + "\n\n" for part in parts)
        return {"text": np.frombuffer(text.encode(), np.uint8)}, counts
    if layout.kind == "pairs":
        documents = [_sentences(text, layout) for text in texts]
        counts["sentences"] = sum(map(len, documents))
        ids, lengths = tokenizer(list(itertools.chain.from_iterable(documents)))
        arrays, more = pair_blocks(ids, lengths, [len(document) for document in documents], first, layout)
        return arrays, {**counts, **_tokens(ids, layout), **more}
    ids, lengths = tokenizer(texts)
    counts |= _tokens(ids, layout)
    if layout.cross:
        return {"ids": with_separators(ids, lengths, layout)}, counts
    return document_blocks(ids, lengths, layout), counts


def _sentences(text, layout):
    if layout.language is not None:
        return sentences.split_document(text, language=layout.language)
    return [line for line in text.split("\n") if line]


def _tokens(ids, layout):
    return {
        "tokens": len(ids),
        "unknown_tokens": int((ids == layout.unknown).sum()) if layout.unknown is not None else 0,
    }


def with_separators(ids, lengths, layout: Layout) -> np.ndarray:
    """[T] int32: a separator in front of each document that has tokens.  ids: of all documents; lengths: of
    each."""
    return np.insert(ids, (np.cumsum(lengths) - lengths)[lengths > 0], layout.separator)


def packed_blocks(ids, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """(blocks [N, max_length] int32, the rest [fewer tokens than fill a block]) of a stream."""
    number = len(ids) // layout.room
    blocks_NL = np.empty((number, layout.max_length), np.int32)
    start, end = len(layout.before), layout.max_length - len(layout.after)
    blocks_NL[:, :start], blocks_NL[:, end:] = layout.before, layout.after
    blocks_NL[:, start:end] = ids[: number * layout.room].reshape(number, layout.room)
    return blocks_NL, ids[number * layout.room :]


def document_blocks(ids, lengths, layout: Layout) -> dict:
    """Each document cut into blocks of its own; the last is as long as what is left.  ids: of all documents;
    lengths: of each."""
    ends, numbers = np.cumsum(lengths), -(-lengths // layout.room)
    within = np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    starts = np.repeat(ends - lengths, numbers) + within * layout.room
    return _assemble(ids, [(starts, np.minimum(layout.room, np.repeat(ends, numbers) - starts))], layout)


def pair_blocks(ids, lengths, sizes, first: int, layout: Layout) -> tuple[dict, dict]:
    """Segment pairs as BERT's, from sentences (Devlin et al. 2019, appendix A.2; the draws as in its
    create_pretraining_data, but for the target length, which that draws once for a document).

    Sentences of a document are collected until the target length is reached (for one pair in ten a random
    one, from 2 tokens on) and cut at a random sentence into A and B.  In half of the pairs, and always when
    there is one sentence, B is instead taken from a random sentence on of another random document of the
    chunk, and the unused sentences are put back; in a chunk of one document B is what follows.  What is too
    long loses tokens of the longer segment, from its ends at random.
    ids: of all sentences; lengths: of each.  sizes: sentences of each document, which has a random generator
    of its own.
    """
    bounds = [0, *np.cumsum(lengths).tolist()]  # of the sentences
    ends = list(itertools.accumulate(sizes))
    ranges = [(end - size, end) for end, size in zip(ends, sizes) if bounds[end] > bounds[end - size]]
    numbers = [
        first + i for i, (end, size) in enumerate(zip(ends, sizes)) if bounds[end] > bounds[end - size]
    ]
    room, found, counts = layout.room, [], {"random_pairs": 0, "tokens_cut": 0, "tokens_unpaired": 0}
    for document, (start, end) in enumerate(ranges):
        draw = random.Random(f"{layout.seed} {numbers[document]}")
        while start < end:
            a_end, b, b_end, following, is_random = _pair(draw, document, start, end, ranges, bounds, room)
            counts["random_pairs"] += is_random
            if bounds[b_end] == bounds[b] or bounds[a_end] == bounds[start]:
                counts["tokens_unpaired"] += bounds[following] - bounds[start]
            else:
                a_part, b_part, num_cut = _fit(
                    draw, bounds[start], bounds[a_end], bounds[b], bounds[b_end], room
                )
                found.append((*a_part, *b_part))
                counts["tokens_cut"] += num_cut
            start = following
    starts_a, lengths_a, starts_b, lengths_b = np.array(found, np.int64).reshape(-1, 4).T
    return _assemble(ids, [(starts_a, lengths_a), (starts_b, lengths_b)], layout), counts


def _pair(draw, document, start, end, ranges, bounds, room):
    """Sentence numbers (end of A, start and end of B, where the next pair begins), and whether B is from
    elsewhere.  A starts at start."""

    def below(number):
        return int(draw.random() * number)

    # The sentences from this one on that together have so many tokens; at least one
    def until(sentence, last, wanted):
        stop = sentence + 1
        while stop < last and bounds[stop] - bounds[sentence] < wanted:
            stop += 1
        return stop

    target = 2 + below(room - 1) if draw.random() < _SHORT else room
    stop = until(start, end, target)
    alone = stop - start == 1
    a_end = start + 1 if alone else start + 1 + below(stop - start - 1)
    wanted = target - (bounds[a_end] - bounds[start])
    if alone or draw.random() < _RANDOM:
        if len(ranges) > 1:
            other = below(len(ranges) - 1)
            first, last = ranges[other + (other >= document)]
            b = first + below(last - first)
            return a_end, b, until(b, last, wanted), a_end, True
        if alone:
            stop = until(a_end, end, wanted) if a_end < end else a_end
    return a_end, a_end, stop, stop, False


def _fit(draw, a, a_end, b, b_end, room):
    """((start, length) of A, the same of B, tokens cut): the longer one is cut, B where they are equal, one
    token at a time."""
    length_a, length_b = a_end - a, b_end - b
    over = max(0, length_a + length_b - room)
    level = min(over, abs(length_a - length_b))  # until they are equal
    cut_a, cut_b = (over - level) // 2, (over - level + 1) // 2
    if length_a > length_b:
        cut_a += level
    else:
        cut_b += level
    from_front = [draw.getrandbits(number).bit_count() for number in (cut_a, cut_b)]
    return (a + from_front[0], length_a - cut_a), (b + from_front[1], length_b - cut_b), over


def _assemble(flat, segments, layout):
    """Blocks of one or two segments, each [N] starts and [N] lengths in flat [T], with the special tokens
    around them."""
    specials = [layout.before, *([layout.between] if len(segments) == 2 else []), layout.after]
    lengths = sum(length for _, length in segments) + sum(map(len, specials))
    block_starts = np.cumsum(lengths) - lengths
    ids, at = np.empty(lengths.sum(), np.int32), block_starts.copy()
    for number, special in enumerate(specials):
        for offset, token in enumerate(special):
            ids[at + offset] = token
        at += len(special)
        if number < len(segments):
            starts, sizes = segments[number]
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            ids[np.repeat(at, sizes) + within] = flat[np.repeat(starts, sizes) + within]
            at += sizes
    arrays = {"ids": ids, "lengths": lengths}
    if len(segments) == 2:
        arrays["second_starts"] = segments[0][1] + len(layout.before) + len(layout.between)
    return arrays
