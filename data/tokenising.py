"""Examples to a tokenised split.

split = tokenising.tokenise_examples(task.read("datasets", "train"), tokenizer, task=task, max_length=128)
for indices in split.epoch(seed, epoch, batch_size):
    batch = split.collate(indices)
"""

import itertools

import numpy as np

from data.model_tokenizer import plain_backend, special_ids, word_prefix
from data.readers import Examples
from data.splits import NOT_SCORED, UNKNOWN, Split, flat
from data.squad import context_windows
from data.squad.question_split import SpanOptions
from utils.errors import CheckpointError, FlagError
from utils.logs import logger

_CHUNK = 10_000  # texts handed to the tokenizer at once; bounds the memory


def tokenise_examples(
    examples: Examples, tokenizer, *, task, max_length: int = 128, spans: SpanOptions | None = None
) -> Split:
    """Tokenise a split.  max_length: tokens of a row, specials included.

    Sentences and pairs are cut at the end, pairs from the longer side; how many were is logged.  For tagging,
    sentences that are too long become several rows between words; a word's first piece carries its label; a
    word without pieces becomes one unknown token.  Questions about a context become windows (squad/), as
    `spans` says, which other tasks do not need.
    Raises FlagError for a max_length that the tokenizer cannot have.
    """
    backend = plain_backend(tokenizer)
    num_specials = backend.num_special_tokens_to_add(examples.second is not None)
    if not num_specials + 2 <= max_length <= tokenizer.model_max_length:
        raise FlagError(
            f"--max_length: found {max_length}; expected {num_specials + 2} (specials and a piece of each "
            f"text) to {tokenizer.model_max_length} (what the tokenizer of this model allows)"
        )
    with_types = "token_type_ids" in tokenizer.model_input_names
    options = {
        "pad_id": tokenizer.pad_token_id,
        "pad_type": tokenizer.pad_token_type_id,
        "padding_side": tokenizer.padding_side,
    }
    if task.kind == "spans":
        return context_windows.tokenise_questions(
            examples,
            tokenizer,
            backend,
            task=task,
            max_length=max_length,
            options=spans,
            groups=special_ids(backend, pair=True),
            with_types=with_types,
            padding=options,
        )
    if task.kind == "tagging":
        return _tokenise_words(examples, tokenizer, backend, task, max_length, with_types, options)
    backend.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    ids, types, lengths, num_truncated = [], [], [], 0
    texts = examples.first if examples.second is None else list(zip(examples.first, examples.second))
    for start in range(0, len(texts), _CHUNK):
        encodings = backend.encode_batch_fast(texts[start : start + _CHUNK])
        ids.append(flat(encoding.ids for encoding in encodings))
        lengths += [len(encoding) for encoding in encodings]
        num_truncated += sum(
            1 for encoding in encodings if len(encoding) == max_length and encoding.overflowing
        )
        if with_types:
            types.append(flat(encoding.type_ids for encoding in encodings))
    if num_truncated:
        logger.info(
            "%s: %d of %d examples cut to %d tokens", examples.path, num_truncated, len(texts), max_length
        )
    labels = examples.labels
    if labels is not None:
        if task.kind == "multilabel":
            rows, labels = labels, np.zeros((len(labels), task.num_labels), np.float32)
            for row, having in zip(labels, rows):
                row[list(having)] = 1
        else:
            labels = np.array(labels, np.float32 if task.kind == "regression" else np.int64)
    return Split(
        examples,
        task,
        ids=np.concatenate(ids),
        types=np.concatenate(types) if with_types else None,
        lengths=np.array(lengths, np.int64),
        labels=labels,
        num_truncated=num_truncated,
        **options,
    )


def _tokenise_words(examples, tokenizer, backend, task, max_length, with_types, options):
    """The rows of a tagging task.  The pieces of each distinct word are made once; everything else is index
    arithmetic."""
    words = list(itertools.chain.from_iterable(examples.first))
    pieces, starts, sizes = _pieces_of_words(words, tokenizer, backend)
    before, after = special_ids(backend)
    room = max_length - len(before) - len(after)
    num_truncated = int((sizes > room).sum())
    sizes = np.minimum(sizes, room)
    sentence_sizes = [len(sentence) for sentence in examples.first]
    rows = _row_begins(sentence_sizes, sizes, room)  # [N + 1] word positions at which rows begin
    if len(rows) - 1 > len(examples) or num_truncated:
        logger.info(
            "%s: %d sentences longer than %d tokens became %d further rows; %d words cut",
            examples.path,
            _number_cut(sentence_sizes, rows),
            max_length,
            len(rows) - 1 - len(examples),
            num_truncated,
        )
    ends = np.concatenate([[0], np.cumsum(sizes)])
    content = ends[rows[1:]] - ends[rows[:-1]]
    lengths = content + len(before) + len(after)
    # Specials in front of row r move it by (r + 1) * before + r * after.
    row_of_word = np.repeat(np.arange(len(content)), np.diff(rows))
    first_pieces = ends[:-1] + (row_of_word + 1) * len(before) + row_of_word * len(after)
    row_starts = np.cumsum(lengths) - lengths
    ids = np.empty(lengths.sum(), np.int32)
    for offset, special in enumerate(before):
        ids[row_starts + offset] = special
    for offset, special in enumerate(after):
        ids[row_starts + lengths - len(after) + offset] = special
    offsets = np.arange(sizes.sum()) - np.repeat(ends[:-1], sizes)  # of each piece within its word
    ids[np.repeat(first_pieces, sizes) + offsets] = pieces[np.repeat(starts, sizes) + offsets]
    labels = np.full(len(ids), NOT_SCORED, np.int64)
    labels[first_pieces] = UNKNOWN
    if examples.labels is not None:
        labels[first_pieces] = np.fromiter(itertools.chain.from_iterable(examples.labels), np.int64)
    return Split(
        examples,
        task,
        ids=ids,
        types=np.zeros_like(ids) if with_types else None,
        lengths=lengths.astype(np.int64),
        labels=labels,
        first_pieces=first_pieces,
        num_truncated=num_truncated,
        **options,
    )


def _pieces_of_words(words, tokenizer, backend):
    """(pieces of all distinct words, for each word where its pieces begin, for each word how many)."""
    position = {word: i for i, word in enumerate(dict.fromkeys(words))}
    prefix = word_prefix(backend)
    encodings = backend.encode_batch_fast([prefix + word for word in position], add_special_tokens=False)
    pieces = [encoding.ids or [tokenizer.unk_token_id] for encoding in encodings]
    if any(found == [None] for found in pieces):
        raise CheckpointError(
            "the tokenizer makes nothing of some words and has no unknown token; use that of another model"
        )
    sizes = np.array([len(found) for found in pieces], np.int64)  # also of no words
    starts = np.cumsum(sizes) - sizes
    indices = np.array([position[word] for word in words], np.int64)
    return flat(pieces), starts[indices], sizes[indices]


def _row_begins(sentence_sizes, sizes, room):
    """The word positions at which rows begin, and the number of words: a row ends with its sentence or before
    the word that would not fit.  sentence_sizes: words of each sentence.  sizes: [words] pieces of each word,
    each within room."""
    ends = np.cumsum(sizes)
    begins, first = [], 0
    for size in sentence_sizes:
        start, last = first, first + size
        while True:
            begins.append(start)
            used = ends[start - 1] if start else 0
            start = int(np.searchsorted(ends[start:last], used + room, side="right")) + start
            if start >= last:
                break
        first = last
    return np.array([*begins, first])


def _number_cut(sentence_sizes, rows):
    """How many sentences became more than one row."""
    begins = np.cumsum(sentence_sizes) - sentence_sizes
    owners = np.searchsorted(begins, rows[:-1], side="right")
    return int((np.bincount(owners) > 1).sum())
