"""The log: log.txt, the console, metrics.jsonl, and an optional tracker that cannot stop a run."""

import contextlib
import json
import logging
import math
import sys
import threading
from collections import Counter
from logging.handlers import MemoryHandler, WatchedFileHandler
from pathlib import Path

from utils import files
from utils.errors import RunError
from utils.printable import printable

logger = logging.getLogger("compression")


class _Formatter(logging.Formatter):
    """Lines whose control characters, of names and texts in files, are escaped."""

    def format(self, record):
        return printable(super().format(record))


class _Console(logging.StreamHandler):
    """Lines on stderr that do not break a progress bar in two."""

    def emit(self, record):
        from tqdm import tqdm

        with contextlib.suppress(OSError):  # nobody listens any more, or it is full: the file has every line
            tqdm.write(self.format(record), file=sys.stderr)


class _File(WatchedFileHandler):
    """log.txt, begun again where somebody has removed it.  A line that cannot be written ends the run."""

    def handleError(self, record):
        with files.writing(self.baseFilename):
            raise


def start(*, is_main: bool):
    """Send the log to the console, and keep it for a file; only warnings from other processes than the main
    one."""
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.INFO if is_main else logging.WARNING)
    console = _Console()
    console.setFormatter(_Formatter("%(message)s"))
    logger.addHandler(console)
    if is_main:
        logger.addHandler(MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=True))


def write_to(folder):
    """Append the log, from its start on, to folder/log.txt."""
    file = _File(Path(folder) / "log.txt", mode="a", encoding="utf-8")
    file.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    memory = next(handler for handler in logger.handlers if isinstance(handler, MemoryHandler))
    memory.setTarget(file)
    memory.close()  # hands over what it holds
    logger.removeHandler(memory)
    logger.addHandler(file)


@contextlib.contextmanager
def errors_only():
    """A context in which the log takes nothing below an error: what would be said a second time."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def number(value) -> str:
    """A number as text, with four decimals, a whole one with separators; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def duration(seconds: float) -> str:
    """A time as text: 40s, 12m, 2.5h."""
    if seconds < 90:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 5400 else f"{seconds / 3600:.1f}h"


def interval(found: dict) -> str:
    """A difference and its interval as text.  found: {"difference", "low", "high"} of utils.bootstrap."""
    return f"{found['difference']:+.4f} ({found['low']:+.4f}, {found['high']:+.4f})"


def table(rows: list[dict], columns: list[str] | None = None) -> str:
    """Rows as aligned text; numbers to four significant places, large ones with separators."""

    def cell(value, column):
        if column.endswith("sparsity") and isinstance(value, int | float):
            return f"{value:g}"
        if isinstance(value, bool) or value is None:
            return "" if value is None else str(value)
        if isinstance(value, float):
            return (
                f"{value:,.0f}"
                if abs(value) >= 1e5
                else f"{value:.4g}"
                if abs(value) >= 10
                else f"{value:.4f}"
            )
        return f"{value:,}" if isinstance(value, int) else str(value)

    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns] + [[cell(row.get(column), column) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths)) for line in lines)


class Metrics:
    """metrics.jsonl: one JSON object per logged step, and the same numbers to a tracker if one is asked for.

    Rows carry the stage and the step.  When a run is continued from an earlier state, the rows after that
    state are dropped, so that the file shows the run as if it had never been interrupted.
    """

    def __init__(self, folder, *, tracker: str, name: str, settings: dict):
        self.path = Path(folder) / "metrics.jsonl"
        self._tracker = _tracker(tracker, folder, name, settings)
        self._counts = Counter()

    def add(self, stage: str, step: int, values: dict):
        """Append one row.  Non-finite numbers are written as strings: JSON has none."""
        row = {"stage": stage, "step": step, **{key: _plain(value) for key, value in values.items()}}
        with files.writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self._counts[stage] += 1
        self._tell("add", row)

    def sync(self, stage: str) -> int:
        """Have everything on the disk before a state is; returns how many rows of its stage belong to it."""
        if self.path.exists():
            files.sync(self.path)
        self._tell("sync")
        return self._counts[stage]

    def rewind(self, stage: str, number: int, *, step: int):
        """Drop all rows of a stage but its first ones, and a last line cut short by a kill.

        step: that of the state which the stage is continued from.
        """
        kept, self._counts[stage], last = [], 0, []
        for line, row in _rows(self.path) if self.path.exists() else ():
            if row["stage"] == stage:
                if self._counts[stage] == number:
                    continue
                self._counts[stage] += 1
                last += [row] if row["step"] == step else []
            kept.append(line)
        if self._counts[stage] < number:
            logger.warning(
                "%s: has %d rows of %s, of %d that had been written; the others are lost, no weights are",
                self.path,
                self._counts[stage],
                stage,
                number,
            )
        text = "".join(line + "\n" for line in kept).encode()
        if self.path.exists() and text != self.path.read_bytes():
            files.write_text(self.path, text.decode())
        self._tell("rewind", stage, step, last)

    def _tell(self, what, *values):
        if self._tracker is not None:
            try:
                getattr(self._tracker, what)(*values)
            except Exception as error:
                logger.warning("the tracker failed and is switched off: %s", error)
                self._tracker = None


def evaluations(folder, stage: str, *, split: str) -> list[dict]:
    """What metrics.jsonl of a run folder says of a stage's evaluations on a split: [{"step": updates, name:
    value}, ...]."""
    rows = [row for _, row in _rows(Path(folder) / "metrics.jsonl")]
    start = f"{split}/"
    return [
        {
            "step": row["step"],
            **{name.removeprefix(start): value for name, value in row.items() if name.startswith(start)},
        }
        for row in rows
        if row["stage"] == stage and any(name.startswith(start) for name in row)
    ]


def _rows(path):
    """[(line, row)] of metrics.jsonl without a last line that a kill has cut short.  Raises RunError for what
    is no row."""
    rows, advice = [], "remove the line, or start the run afresh with --overwrite"
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            text = line.decode()
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}:{number}: damaged ({error}); {advice}") from error
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("stage"), str)
            or type(row.get("step")) is not int
        ):
            raise RunError(
                f"{path}:{number}: damaged (found {text[:80]!r}, expected an object with stage and step); "
                f"{advice}"
            )
        rows.append((text, row))
    return rows


def _plain(value):
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _tracker(kind, folder, name, settings):
    """The tracker asked for, or None.  Its absence is an error before anything is trained."""
    if kind == "none":
        return None
    return _TensorBoard(folder) if kind == "tensorboard" else _Library(kind, name, settings)


def _scalars(row) -> dict:
    return {
        f"{row['stage']}/{k}": v
        for k, v in row.items()
        if k not in ("stage", "step") and isinstance(v, int | float)
    }


class _TensorBoard:
    """tensorboard/<stage>/: a writer for each stage, because one that is continued takes back what came after
    its state."""

    def __init__(self, folder):
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._open, self._writers = Path(folder) / "tensorboard", SummaryWriter, {}
        threading.excepthook = _thread_ended

    def add(self, row):
        for name, value in _scalars(row).items():
            self._writers[row["stage"]].add_scalar(name, value, row["step"])

    def rewind(self, stage, step, last):
        """Take back the steps from that of the state on; last: the rows of that step, which stay."""
        folder = self._folder / stage
        self._writers[stage] = self._open(folder, purge_step=step if folder.exists() else None)
        for row in last if folder.exists() else ():
            self.add(row)

    def sync(self):
        for writer in self._writers.values():
            writer.flush()


def _thread_ended(details):
    """TensorBoard writes in a thread: that the disk has ended it is said when the next row is added, without
    a traceback."""
    if not isinstance(details.exc_value, OSError):
        threading.__excepthook__(details)


class _Library:
    """wandb or trackio, which share these two calls."""

    def __init__(self, kind, name, settings):
        self._library = __import__(kind)
        self._library.init(project="bert-compression", name=name, config=settings)

    def add(self, row):
        self._library.log(_scalars(row), step=row["step"])

    def rewind(self, stage, step, last):
        """What they have been sent stays."""

    def sync(self):
        """They send by themselves."""
