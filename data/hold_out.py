"""Rows of train that no stage trains on: which ones, told by their text alone.

The order of the file and --max_train_samples do not matter, and rows with the same text stay together.
"""

import hashlib

from data.readers import Examples
from utils.errors import DataError


def separate(examples: Examples, share: float, *, kind: str) -> tuple[list[int], list[int]]:
    """(positions of the rows that are held out, of the rest), each in the file's order.

    share: of the rows, from 0 to 1, about.  kind: of the task.  Of a pair both texts count; of a question
    about a text the text alone, so that nothing is known of a text that is held out.  Raises DataError where
    one of the two would be empty.
    """
    held = [_number(text) < share for text in _texts(examples, kind)]
    out, rest = ([i for i, is_held in enumerate(held) if is_held == wanted] for wanted in (True, False))
    if not out or not rest:
        raise DataError(
            f"{examples.path}: --hold_out {share:g} of {len(examples)} rows leaves {len(out)} held out and "
            f"{len(rest)} to train on; expected some of both: give another share"
        )
    return out, rest


def without(examples: Examples, held: Examples, *, kind: str) -> Examples:
    """The examples whose text, as above, is not one of those that are held out."""
    known = {*_texts(held, kind)}
    return examples.take([i for i, text in enumerate(_texts(examples, kind)) if text not in known])


def _texts(examples, kind):
    if kind == "tagging":
        return map(" ".join, examples.first)
    if kind == "spans" or examples.second is None:
        return examples.second or examples.first
    return map("\t".join, zip(examples.first, examples.second))


def _number(text) -> float:
    """A number in [0, 1) that depends on the text's bytes alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
