"""report.html: all runs below a folder on one page, drawn from their results.json and metrics.jsonl alone.

sections: what stands on the page.  charts: SVG.  page: HTML, its style and its filters.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from utils import files, run_folder
from utils.errors import RunError
from utils.report import sections
from utils.report.page import is_page, page


@dataclass
class FoundRun:
    """What is known of one run.

    name: its folder, below the one that the report is about.  results: of results.json; {} for an unfinished
    run.  rows: of metrics.jsonl.  chosen_by: its --selection_metric.  problems: what could not be read.
    """

    name: str
    results: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    chosen_by: str | None = None
    problems: list = field(default_factory=list)

    @property
    def split(self) -> str | None:
        """The split that its score is of: the first of its metrics' that is dev's, else the first."""
        splits = list(self.results.get("metrics") or {})
        return next((split for split in splits if split.startswith("dev")), next(iter(splits), None))

    @property
    def curve_split(self) -> str | None:
        """The split of a nested model's curve: the one that chooses, whose metrics come first."""
        return next(iter(self.results.get("metrics") or {}), None)

    @property
    def metrics(self) -> dict:
        """The metrics of the split of its score."""
        return self.results["metrics"][self.split] if self.split else {}

    @property
    def key(self) -> str | None:
        """The metric that it is judged by."""
        return sections.judge(self.metrics, self.chosen_by)


def write(folder, output_dir=None) -> Path:
    """Write report.html about all runs below a folder, into it or into another one; returns its path.

    Raises RunError where there is no run, or where the page cannot be written.
    """
    runs = find_runs(folder)
    if not runs:
        raise RunError(
            f"--report {folder}: found no run below it; expected folders with results.json or metrics.jsonl"
        )
    path = Path(output_dir or folder) / "report.html"
    try:
        if os.path.lexists(path) and not is_page(path):
            raise RunError(
                f"{path}: was not written by --report; move it, or choose another folder with --output_dir"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        files.clean(path.parent, lambda name: name == path.name)
        files.write_text(path, page(f"Runs below {Path(folder).name or folder}", sections.body(runs)))
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); choose another folder with --output_dir"
        ) from error
    return path


def find_runs(folder) -> list[FoundRun]:
    """The runs below a folder, by name.  A results.json without a stage is no run's."""
    runs = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not run_folder.is_replaced(name))
        if "results.json" not in names and "metrics.jsonl" not in names:
            continue
        run = FoundRun(Path(parent).relative_to(folder).as_posix())
        if "results.json" in names:
            found = _read(run, Path(parent) / "results.json", files.read_json)
            run.results = found if isinstance(found, dict) and "stage" in found else {}
        if "args.json" in names:
            found = _read(run, Path(parent) / "args.json", files.read_json)
            settings = found.get("settings") if isinstance(found, dict) else None
            metric = settings.get("selection_metric") if isinstance(settings, dict) else None
            run.chosen_by = metric if isinstance(metric, str) else None
        if "metrics.jsonl" in names:
            run.rows = _read(run, Path(parent) / "metrics.jsonl", _read_rows) or []
        _drop_what_cannot_be_shown(run)
        if run.problems or run.rows or run.results:
            runs.append(run)
    return sorted(runs, key=lambda run: run.name)


def _drop_what_cannot_be_shown(run):
    """A run whose files hold other values than a run's becomes a line about that: the others' page is made
    all the same."""
    try:
        sections.body([run])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        run.problems.append(f"results.json, metrics.jsonl: damaged ({repr(error)[:200]})")
        run.results, run.rows = {}, []


def _read(run, path, read):
    try:
        return read(path)
    except (OSError, ValueError) as error:  # a run that is being written, or was cut off
        run.problems.append(f"{path.name}: {error}")
        return None


def _read_rows(path):
    """The rows of metrics.jsonl; a last line that is being written is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [files.parse_json(line) for line in lines[:-1] if line]
