"""What the next logged row of training is about: terms, examples and seconds since the row before."""

import re
import time
from collections import defaultdict

import torch

from utils import distributed, logs

_SPARSITY = re.compile(r"^[\d.]+(?=/|$)")  # what the terms of one of several students begin with
_MOST_TERMS = 6  # that a line of the log lists one by one; metrics.jsonl has all


class Window:
    """Sums since the last logged row.  device: of the terms.  watch: of training.fit().

    Each process has one; all call state() and row() together.
    """

    def __init__(self, device, watch):
        self._device, self._watch = device, watch
        self.begin()

    def begin(self, kept=None):
        """Begin the next row, or go on with what state() has given."""
        kept = kept or {"sums": [{}] * distributed.world(), "logged": {}, "seconds": 0.0, "watch": None}
        sums = {
            name: torch.tensor(total, device=self._device)
            for name, total in kept["sums"][distributed.rank()].items()
        }
        # {name: sum of a term}, each process its own; {"examples", "norm", "updates", "skipped"}, of all
        self._sums, self._logged = defaultdict(float, sums), defaultdict(float, kept["logged"])
        self._started = time.monotonic() - kept["seconds"]
        if self._watch is not None:
            self._watch.reset(kept["watch"])

    def state(self) -> dict:
        """What begin() goes on from, as JSON can hold it."""
        seconds = time.monotonic() - self._started
        return {
            "sums": distributed.gather({name: float(total) for name, total in self._sums.items()}),
            "logged": self._logged,
            "seconds": seconds,
            "watch": self._watch and self._watch.state(),
        }

    def add(self, terms: dict, *, examples: int, norm: float, done: bool):
        """Add an update.  terms: {name: tensor}.  norm: of the gradient.  done: False where fp16 has skipped
        it."""
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term.float() * done
        self._logged["examples"] += examples
        self._logged["norm"] += norm if done else 0.0
        self._logged["updates"] += 1
        self._logged["skipped"] += not done

    def leave_out(self, seconds: float):
        """So much of the time was not training: the speed is that of training."""
        self._started += seconds

    def row(self, *, lr: float, updates_left: int) -> tuple[dict, str]:
        """(the row for metrics.jsonl; the same for a line of the log): means over the updates that were done,
        and processes."""
        names, logged = list(self._sums), self._logged
        num_done = max(logged["updates"] - logged["skipped"], 1)
        means = distributed.all_reduce(torch.stack([self._sums[name] for name in names]).float() / num_done)
        terms = dict(zip(names, (means / distributed.world()).tolist()))
        loss, seconds = sum(terms.values()), time.monotonic() - self._started
        speed, eta = logged["examples"] / seconds, updates_left * seconds / logged["updates"]
        row = {
            "loss": loss,
            **terms,
            "grad_norm": logged["norm"] / num_done,
            "lr": lr,
            "examples_per_second": speed,
            "eta_seconds": round(eta),
            **(self._watch.values() if self._watch is not None else {}),
        }
        shown = terms if len(terms) <= _MOST_TERMS else _by_part(terms)
        named = {_SPARSITY.sub(r"\g<0>S", name): value for name, value in shown.items()}
        added = " + ".join(f"{name} {value:.4f}" for name, value in named.items())
        return row, f"loss {loss:.4f} = {added} | lr {lr:.2e} | {speed:.0f} ex/s | eta {logs.duration(eta)}"


def _by_part(terms) -> dict:
    """Loss terms summed by what stands before the stroke: 90/hidden and 90/soft_label make 90."""
    sums = defaultdict(float)
    for name, value in terms.items():
        sums[name.partition("/")[0]] += value
    return sums
