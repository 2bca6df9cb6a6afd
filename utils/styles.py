"""What pictures have in common, those of utils.plots and those of a report: what a runtime, a stage and the
series of a chart look like, and how numbers stand on an axis.

Colours are Okabe and Ito's, which stay apart for the colour-blind; the marker tells them apart in grey.
"""

from typing import NamedTuple


class Style(NamedTuple):
    """color: in hexadecimal.  marker: matplotlib's letter for it."""

    color: str
    marker: str


# Of series that have no style of their own, in this order
SERIES = (
    Style("#0072B2", "o"),
    Style("#D55E00", "s"),
    Style("#009E73", "^"),
    Style("#CC79A7", "D"),
    Style("#56B4E9", "v"),
    Style("#E69F00", "P"),
    Style("#555555", "X"),
    Style("#000000", "<"),
)
TEACHER = Style("#000000", "*")
RUNTIMES = {
    "teacher": TEACHER,
    "torch": Style("#0072B2", "o"),
    "onnx": Style("#D55E00", "s"),
    "onnx int8": Style("#009E73", "^"),
}
STAGES = {
    "finetuning": Style("#0072B2", "D"),
    "sparsification": Style("#D55E00", "v"),
    "distillation": Style("#009E73", "o"),
    "minidisc": Style("#CC79A7", "s"),
    "maxidisc": Style("#56B4E9", "^"),
    "stark": Style("#E69F00", "P"),
    "ted": Style("#555555", "X"),
    "vocabulary": Style("#000000", "<"),
}
OTHER = Style("#555555", ">")  # a stage or a runtime that is not in the tables


def short_number(value) -> str:
    """A number as short as an axis wants it: 0.85, 120, 1.5k, 20M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}"
