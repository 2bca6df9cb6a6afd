"""Contexts too long for the model become overlapping windows of tokens, each behind its question.

Q questions, N windows, T tokens of all distinct contexts.
"""

import numpy as np

from data.splits import flat, ranges
from data.squad.question_split import QuestionSplit, SpanOptions
from utils.errors import CheckpointError, FlagError
from utils.logs import logger

_CHUNK = 1000  # contexts handed to the tokenizer at once; bounds the memory


def tokenise_questions(
    examples, tokenizer, backend, *, task, max_length: int, options: SpanOptions, groups, with_types, padding
) -> QuestionSplit:
    """Tokenise questions and contexts.

    backend: the tokenizer's own, without truncation and padding.  groups: the special tokens before, between
    and after a pair. padding: of Split.  Questions lose blanks on the left and are cut to max_query_length;
    each token of a context is in a window. A window's label is the first answer, as the tokens that share a
    character with it; where one of them is outside the window, and where there is no answer, it is [CLS]
    twice.
    Raises FlagError where the windows would not move on.
    """
    before, between, after = groups
    if tokenizer.cls_token_id not in before:
        raise CheckpointError(
            f"the tokenizer begins a text with {before}; expected [CLS] among them, the place of no answer"
        )
    cls = before.index(tokenizer.cls_token_id)
    query_ids, query_sizes, num_cut = _questions(examples.first, backend, options.max_query_length)
    number_of = {context: number for number, context in enumerate(dict.fromkeys(examples.second))}
    context_ids, offsets, totals = _contexts([*number_of], backend)
    contexts = np.array([number_of[context] for context in examples.second])  # [Q]
    context_begins, num_tokens = (np.cumsum(totals) - totals)[contexts], totals[contexts]
    rooms = max_length - sum(map(len, groups)) - query_sizes
    if rooms.min() <= options.doc_stride:
        raise FlagError(
            f"--doc_stride {options.doc_stride}: with --max_length {max_length} a question of "
            f"{query_sizes.max()} tokens leaves {rooms.min()} for its context; expected more than the tokens "
            "that windows share: lower --doc_stride or --max_query_length, or raise --max_length"
        )
    owners, begins, sizes = _window_places(num_tokens, rooms, rooms - options.doc_stride)
    starts = len(before) + query_sizes[owners] + len(between)  # of the context, in the row
    lengths = starts + sizes + len(after)
    ids = np.empty(lengths.sum(), np.int32)
    rows = np.cumsum(lengths) - lengths
    for specials, at in (
        (before, rows),
        (between, rows + starts - len(between)),
        (after, rows + lengths - len(after)),
    ):
        for offset, special in enumerate(specials):
            ids[at + offset] = special
    query_begins = np.cumsum(query_sizes) - query_sizes
    ids[ranges(rows + len(before), query_sizes[owners])] = query_ids[
        ranges(query_begins[owners], query_sizes[owners])
    ]
    ids[ranges(rows + starts, sizes)] = context_ids[ranges(context_begins[owners] + begins, sizes)]
    types = None
    if with_types:
        first, second = _types(backend)
        within = np.arange(len(ids)) - np.repeat(rows, lengths)
        types = np.where(within >= np.repeat(starts, lengths), second, first).astype(np.int32)
    labels, num_lost = None, 0
    if examples.labels is not None:
        columns = zip(examples.labels, context_begins, num_tokens)
        found_Q2 = np.array(
            [_span(answers, offsets[begin : begin + size]) for answers, begin, size in columns]
        )
        labels, num_lost = _labels(found_Q2, owners, begins, sizes, starts, cls)
    logger.info(
        "%s: %d questions in %d windows of up to %d tokens; %d questions cut to %d tokens; %d answers in no "
        "window",
        examples.path,
        len(examples),
        len(owners),
        max_length,
        num_cut,
        options.max_query_length,
        num_lost,
    )
    return QuestionSplit(
        examples,
        task,
        options=options,
        owners=owners,
        context_starts=starts,
        begins=context_begins[owners] + begins,
        sizes=sizes,
        offsets=offsets,
        cls=cls,
        ids=ids,
        types=types,
        lengths=lengths,
        labels=labels,
        num_truncated=num_cut,
        **padding,
    )


def _questions(texts, backend, max_length):
    """(ids of all questions, [Q] tokens of each, how many were cut)."""
    encodings = backend.encode_batch_fast([text.lstrip() for text in texts], add_special_tokens=False)
    ids = [encoding.ids[:max_length] for encoding in encodings]
    return flat(ids), _sizes(ids), sum(len(encoding) > max_length for encoding in encodings)


def _contexts(texts, backend):
    """([T] ids of all contexts, [T, 2] first character and end of each token without the blanks around it,
    tokens of each)."""
    ids, offsets = [], []
    for at in range(0, len(texts), _CHUNK):
        part = texts[at : at + _CHUNK]
        encodings = backend.encode_batch(part, add_special_tokens=False)
        ids += [encoding.ids for encoding in encodings]
        offsets += [_trimmed(text, encoding.offsets) for text, encoding in zip(part, encodings)]
    return flat(ids), np.concatenate(offsets), _sizes(ids)


def _trimmed(text, offsets):
    """Offsets [tokens, 2] without blanks: some tokenizers count the blank before a word to it.  Nothing left:
    two equal ones."""
    begin, end = np.array(offsets, np.int64).reshape(-1, 2).T
    blank, places = np.fromiter(map(str.isspace, text), bool, len(text)), np.arange(len(text))
    # The character at or after each place; the end of the last character before it
    following = np.append(np.minimum.accumulate(np.where(blank, len(text), places)[::-1])[::-1], len(text))
    preceding = np.append(0, np.maximum.accumulate(np.where(blank, 0, places + 1)))
    begin = np.minimum(following[begin], end)
    return np.stack([begin, np.maximum(preceding[end], begin)], 1)


def _window_places(num_tokens, rooms, steps):
    """(owners, begins, sizes), [N]: the question of each window, its first token within the context, how
    many.

    num_tokens: [Q] of the context.  rooms: [Q] tokens of it that a window holds.  steps: [Q] from one window
    to the next.
    """
    numbers = 1 + np.maximum(0, -(-(num_tokens - rooms) // steps))
    owners = np.repeat(np.arange(len(numbers)), numbers)
    begins = (np.arange(len(owners)) - np.repeat(np.cumsum(numbers) - numbers, numbers)) * steps[owners]
    return owners, begins, np.minimum(rooms[owners], num_tokens[owners] - begins)


def _span(answers, offsets):
    """(first, last) token of a context that share a character with the first answer; (-1, -1) where there is
    none."""
    if not answers:
        return -1, -1
    at, text = answers[0]
    first = np.searchsorted(offsets[:, 1], at, side="right")
    last = np.searchsorted(offsets[:, 0], at + len(text), side="left") - 1
    return (first, last) if first <= last else (-1, -1)


def _labels(found_Q2, owners, begins, sizes, starts, cls):
    """([N, 2] positions in the rows of the first and last token, how many answers are whole in no window)."""
    first, last = found_Q2[owners].T
    inside = (first >= begins) & (last < begins + sizes)
    labels = np.where(inside[:, None], np.stack([first, last], 1) + (starts - begins)[:, None], cls)
    whole = np.bincount(owners, inside, minlength=len(found_Q2)) > 0
    return labels, int(((found_Q2[:, 0] >= 0) & ~whole).sum())


def _types(backend):
    """The segment ids of the two texts of a pair; special tokens have that of the text before them, the first
    ones the first."""
    encoding = backend.encode("a", "a")
    return [encoding.type_ids[encoding.sequence_ids.index(number)] for number in (0, 1)]


def _sizes(lists):
    return np.array([len(row) for row in lists], np.int64)
