"""What all sections of the GPU benchmark are told, the peaks of known cards, and rows that may fail."""

import contextlib
import gc
import math
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from utils import cost

# Peak of dense bf16 products, in FLOP/s, by what a card is called; the first name that fits is taken.
# Makers' data sheets
PEAKS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
}


def peak_of(card) -> float | None:
    """Peak of a card in bf16, in FLOP/s, by torch's name of it; None for one that is not in the table."""
    words = card.replace("-", " ").split()
    return next((peak for name, peak in PEAKS.items() if all(part in words for part in name.split())), None)


@dataclass(frozen=True)
class BenchmarkSettings:
    """device: "cuda" or "cpu".  quick: fewer sizes and rounds.  work: a folder for what is made, removed at
    the end.

    data_dir, encoder: real data, and a real checkpoint with its tokenizer.  peak: of the card in bf16,
    FLOP/s; None: not known. start: how processes are started, as multiprocessing calls it.
    """

    device: str
    quick: bool
    work: Path
    data_dir: Path
    encoder: Path
    peak: float | None
    start: str = "forkserver"

    def pick(self, full, quick, tiny):
        """One of three sizes: of a GPU, of a GPU in a hurry, of a CPU, where nothing is measured but that all
        of it runs."""
        return tiny if self.device == "cpu" else quick if self.quick else full

    @property
    def precisions(self):
        """Those of 16 bits that the device has."""
        if self.device == "cpu":
            return ["bf16"]
        return ["bf16", "fp16"] if torch.cuda.is_bf16_supported() else ["fp16"]

    @property
    def precision(self):
        """The one that is timed."""
        return self.precisions[0]


def attempt(what: dict, measure, settings, *, elsewhere=False) -> dict:
    """A row: what, and what measure() finds out about it; or "error", where that fails.  Also the peak of
    memory, in MiB.

    elsewhere: other processes do the work, so this one has no peak, and must not touch the GPU.
    """
    on_gpu = settings.device == "cuda" and not elsewhere
    try:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        row = {**what, **measure()}
        return row if elsewhere else {**row, "peak MiB": round(cost.peak_memory(settings.device) / 2**20)}
    except Exception as error:  # whatever it is, the rows after it are measured
        traceback.print_exc()
        return {**what, "error": in_short(error)}
    finally:
        gc.collect()
        if on_gpu:
            with contextlib.suppress(RuntimeError):  # of a kernel that has failed, said above
                torch.cuda.empty_cache()


def extra_memory(call) -> int:
    """MiB of a GPU that a call takes at most, besides what is there before."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def in_short(error) -> str:
    """An error in one line: of long ones the begin and the end, where a traceback says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines if len(lines) <= 4 else [*lines[:2], "...", *lines[-2:]]
    return f"{type(error).__name__}: {' '.join(lines)}"[:600]


def aim(value, *, at_least=None, at_most=None, settings) -> str:
    """What a measured value was to be, and whether it is; nothing where nothing is measured."""
    if settings.device == "cpu" or value is None:
        return ""
    if at_least is not None:
        return f"at least {at_least:g}: {'met' if value >= at_least else 'missed'}"
    return f"at most {at_most:g}: {'met' if value <= at_most else 'missed'}"


def plain(value):
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # numpy's and torch's numbers
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
