"""Which batches are timed: one example and 32, of real lengths and all of 128 tokens; and the passes
themselves."""

import numpy as np
import torch

from utils import cost
from utils.batch import Batch
from utils.evaluation import autocast

BATCH_SIZES = (1, 32)
TOKENS = cost.MACS_TOKENS
REAL = "real"
_SPREAD = 5  # real batches, from the longest rows of the split to the shortest


def case(size, tokens) -> str:
    """The name of a case: 1x128, 32xreal."""
    return f"{size}x{tokens}"


def cases(split, *, max_tokens=None) -> dict[str, list[Batch]]:
    """{"1x128": batches, "1xreal": ..., "32x128": ..., "32xreal": ...} of a split's rows.

    Of real lengths: five batches that lie evenly between the longest rows and the shortest, padded as in
    evaluation.  Of 128 tokens: one batch without padding, its rows repeated or cut.  max_tokens: of a model
    that takes fewer, which the name says.
    """
    made, tokens = {}, _tokens(max_tokens)
    for size in BATCH_SIZES:
        batches = split.in_order(size)
        full = [rows for rows in batches if len(rows) == size] or [np.resize(batches[0], size)]
        chosen = np.unique(np.linspace(0, len(full) - 1, _SPREAD).round().astype(int))
        made[case(size, tokens)] = [filled(split.collate(full[len(full) // 2]), tokens)]
        made[case(size, REAL)] = [split.collate(full[index]) for index in chosen]
    return made


def _tokens(max_tokens):
    return min(TOKENS, max_tokens or TOKENS)


def filled(batch, tokens) -> Batch:
    """A batch whose rows have exactly so many tokens: real ones from the start, over and over."""

    def fill(tensor_BL):
        rows = [
            np.resize(row.numpy(), tokens) for row in (row[real] for row, real in zip(tensor_BL, batch.mask))
        ]
        return torch.from_numpy(np.stack(rows))

    return Batch({name: fill(tensor_BL) for name, tensor_BL in batch.inputs.items()}, None, batch.indices)


class AutocastModel:
    """A model in eval mode, called under a precision: what is scored is what is timed."""

    def __init__(self, model, *, device, precision):
        self.model, self.device, self.precision, self.training = model, device, precision, model.training

    def __call__(self, **inputs):
        """A batch's inputs to the model's output; every pass casts the weights anew, as a service would that
        casts at all."""
        with autocast(self.device, self.precision):
            return self.model(**inputs)


def speed(runner, cases, *, repeats, device) -> dict[str, dict]:
    """{case: cost.latency of it}.  repeats: timed passes of a case; where it has several batches, they share
    them."""
    timed = {}
    for name, batches in cases.items():
        inputs, each = [batch.to(device).inputs for batch in batches], -(-repeats // len(batches))
        timed[name] = cost.latency(runner, inputs, repeats=each, warmup=3 if len(batches) == 1 else 1)
    return timed


def peak(runner, cases, *, max_tokens, weights, device) -> int | None:
    """cost.peak_of a pass of 32 examples of 128 tokens, once they have been timed.  max_tokens: as for
    cases()."""
    inputs = cases[case(BATCH_SIZES[-1], _tokens(max_tokens))][0].to(device).inputs

    def run():
        with torch.inference_mode():
            runner(**inputs)

    return cost.peak_of(run, weights=weights, device=device)
