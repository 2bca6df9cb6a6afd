"""Span search over many windows beside the nested Python loops of the published code, in seconds of CPU time
of one process.

    python benchmarks/span_search.py --output span_search.json
Logits are made up, random and with a peak somewhere as a trained model's have; a context begins behind 15
tokens of question and ends before [SEP].  Both variants search the same windows, the best of --num_rounds
rounds counts, and what they find is compared.  The loops: per window, sort all start and end logits, go
through the best 20 x 20 pairs, keep the spans of at most 30 tokens, sort them.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from data.squad.best_spans import best_spans
from utils import logs

QUESTION = 15


def in_loops(start_WL, end_WL, *, num_best, max_answer_length):
    """For each window [(first, last, score), ...], as somebody would write it down."""
    found = []
    for start_L, end_L in zip(start_WL, end_WL):
        starts = np.argsort(-start_L, kind="stable")[:num_best].tolist()
        ends = np.argsort(-end_L, kind="stable")[:num_best].tolist()
        spans = []
        for first in starts:
            for last in ends:
                if last < first or last - first + 1 > max_answer_length:
                    continue
                spans.append({"first": first, "last": last, "score": start_L[first] + end_L[last]})
        spans.sort(key=lambda span: -span["score"])
        found.append([(span["first"], span["last"], float(span["score"])) for span in spans[:num_best]])
    return found


def windows(number, tokens, seed):
    """Start and end logits [number, tokens], float32, -inf outside the context."""
    draw = np.random.default_rng(seed)
    peaks_W1 = draw.integers(2 + QUESTION, tokens - 1, (number, 1))
    bump_WL = 8 * np.exp(-np.abs(np.arange(tokens) - peaks_W1) / 10)
    start_WL, end_WL = (bump_WL + draw.normal(size=(2, number, tokens))).astype(np.float32)
    for logits_WL in (start_WL, end_WL):
        logits_WL[:, : 2 + QUESTION] = -np.inf
        logits_WL[:, -1] = -np.inf
    return start_WL, end_WL


def main():
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--num_windows", type=int, default=10_000)
    add("--lengths", type=int, nargs="+", default=[128, 384, 512], help="tokens of a window")
    add("--num_best", type=int, default=20)
    add("--max_answer_length", type=int, default=30)
    add("--num_rounds", type=int, default=3)
    add("--output", type=Path, help="a JSON file for the rows")
    args = parser.parse_args()
    options = {"num_best": args.num_best, "max_answer_length": args.max_answer_length}
    rows = []
    for tokens in args.lengths:
        logits = windows(args.num_windows, tokens, seed=tokens)
        seconds = {best_spans: [], in_loops: []}
        for _ in range(args.num_rounds):
            for search, times in seconds.items():
                spent, found = timing.timed(lambda search=search, logits=logits: search(*logits, **options))
                times.append(spent)
                if search is best_spans:
                    ours = [
                        [(int(a), int(b), float(s)) for a, b, s in zip(*window) if s > -np.inf]
                        for window in zip(*found)
                    ]
        assert ours == found, "the two do not find the same"
        fast, slow = min(seconds[best_spans]), min(seconds[in_loops])
        rows.append(
            {
                "tokens": tokens,
                "windows": args.num_windows,
                "ours_s": round(fast, 4),
                "loops_s": round(slow, 4),
                "times": round(slow / fast, 1),
                "windows_per_s": round(args.num_windows / fast),
            }
        )
    print(logs.table(rows))
    if args.output is not None:
        args.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
