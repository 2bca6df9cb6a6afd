"""The best spans of tokens by the sum of their start and end scores, for many windows at once.

W windows, L tokens, K candidates of a window.
"""

import numpy as np

_CHUNK = 256  # windows whose pairs are laid out at once; bounds the memory
_LOW = np.int64(0xFFFFFFFF)


def best_spans(start_WL, end_WL, *, num_best: int, max_answer_length: int):
    """The best spans of each window: (first_WK, last_WK, score_WK), the best first, K = num_best.

    start_WL, end_WL: float32, -inf for tokens that cannot begin or end an answer (question, specials,
    padding).
    A span joins one of the num_best best starts with one of the num_best best ends, last >= first, and has at
    most max_answer_length tokens; its score is the sum.  Of equal ones the earlier token, and of spans the
    better start, comes first. Where a window has fewer spans, the score is -inf and the positions mean
    nothing.
    Source: TED (Liang et al. 2023), whose code does this window by window, pair by pair.
    """
    parts = [
        _chunk(start_WL[at : at + _CHUNK], end_WL[at : at + _CHUNK], num_best, max_answer_length)
        for at in range(0, len(start_WL), _CHUNK)
    ]
    return tuple(np.concatenate(columns) for columns in zip(*parts))


def _chunk(start_WL, end_WL, num_best, max_answer_length):
    starts_WS, ends_WS = _top(start_WL, num_best), _top(end_WL, num_best)
    scores_WSS = (
        np.take_along_axis(start_WL, starts_WS, 1)[:, :, None]
        + np.take_along_axis(end_WL, ends_WS, 1)[:, None, :]
    )
    sizes_WSS = ends_WS[:, None, :] - starts_WS[:, :, None] + 1
    scores_WSS[(sizes_WSS < 1) | (sizes_WSS > max_answer_length)] = -np.inf
    windows, side = len(start_WL), ends_WS.shape[1]
    scores_WP = scores_WSS.reshape(windows, -1)
    pairs_WK = _top(scores_WP, num_best)
    found = [
        np.take_along_axis(starts_WS, pairs_WK // side, 1),
        np.take_along_axis(ends_WS, pairs_WK % side, 1),
        np.take_along_axis(scores_WP, pairs_WK, 1),
    ]
    lacking = num_best - pairs_WK.shape[1]
    fillers = (0, 0, -np.inf)
    return [
        np.pad(part, ((0, 0), (0, lacking)), constant_values=filler) for part, filler in zip(found, fillers)
    ]


def _top(values_WL, number):
    """Columns of the largest values of each row, in descending order, of equal ones the leftmost first.

    A value and its column become one integer that orders as they do, so that nothing but a partition is left
    to do.
    """
    number = min(number, values_WL.shape[1])
    bits = (np.ascontiguousarray(values_WL, np.float32) + 0.0).view(np.int32)  # a copy; + 0.0: no -0.0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # floats below 0 order the wrong way round
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= _LOW - np.arange(values_WL.shape[1])
    keys = np.partition(keys, -number, axis=1)[:, -number:]
    keys.sort(axis=1)
    return _LOW - (keys[:, ::-1] & _LOW)
