"""What TED's filters are like and what they belong to: filters.json of a checkpoint, read without torch to check the flags."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from utils import checkpoints, files
from utils.errors import CheckpointError

SPEC, WEIGHTS = "filters.json", "filters.safetensors"


@dataclass(frozen=True)
class FilterSpec:
    """Filters of one model.

    task: what they were trained for.  num_layers, hidden_size: of the model.  layers: the filtered hidden states, from 1,
    ascending.  output_dim: what they make of a state.  nonlinear: two linear layers instead of one.
    """

    task: str
    num_layers: int
    hidden_size: int
    layers: list[int]
    output_dim: int
    nonlinear: bool

    def write(self, folder):
        """Write filters.json into a folder."""
        files.write_json(Path(folder) / SPEC, asdict(self))


def filtered_layers(num_layers: int, interval: int) -> list[int]:
    """Which hidden states are filtered: interval, 2 interval, ... up to num_layers, counted from 1 (0 is the embeddings)."""
    return list(range(interval, num_layers + 1, interval))


def read(path) -> FilterSpec | None:
    """The specification beside a local checkpoint or finished run; None for a hub name, which is looked up when it is loaded.

    Raises CheckpointError where there is none, or it is damaged.
    """
    folder = Path(checkpoints.resolve(path))
    if not folder.is_dir():
        return None
    file = folder / SPEC
    if not file.exists():
        raise CheckpointError(f"{path}: no filters ({SPEC}) beside this model; make them with run_ted.py --mode filters")
    try:
        values = files.read_json(file)
        spec = FilterSpec(**values)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        names = ", ".join(field.name for field in fields(FilterSpec))
        raise CheckpointError(f"{file}: expected a JSON object with {names} ({error}); write the filters again") from error
    counts = [spec.num_layers, spec.hidden_size, spec.output_dim, *(spec.layers if isinstance(spec.layers, list) else [None])]
    whole = all(type(count) is int and count > 0 for count in counts) and type(spec.nonlinear) is bool
    if not whole or spec.layers != sorted({*spec.layers}) or not spec.layers or spec.layers[-1] > spec.num_layers:
        raise CheckpointError(f"{file}: these are no filters of a model with {spec.num_layers} layers: {values}")
    return spec


def misfits(spec: FilterSpec, *, task: str, num_layers=None, hidden_size=None):
    """Yield why filters do not belong to a task or a model, as text; what is None is not looked at."""
    for name, found, expected in (
        ("--task_name", spec.task, task),
        ("number of layers", spec.num_layers, num_layers),
        ("hidden size", spec.hidden_size, hidden_size),
    ):
        if expected is not None and found != expected:
            yield f"{name}: {found} of the filters, {expected} here"


def contradictions(spec: FilterSpec, *, interval=None, output_dim=None, nonlinear=False, prefix=""):
    """Yield which flags say something else than the checkpoint's filters; what is None or False has not been given."""
    if interval is not None and spec.layers != filtered_layers(spec.num_layers, interval):
        yield f"--{prefix}filter_interval {interval}: the checkpoint's filters are on layers {_listed(spec.layers)}"
    if output_dim is not None and output_dim != spec.output_dim:
        yield f"--{prefix}filter_output_dim {output_dim}: the checkpoint's filters make {spec.output_dim}"
    if nonlinear and not spec.nonlinear:
        yield f"--{prefix}filter_nonlinear: the checkpoint's filters are linear"


def unmatched(student_layers, teacher_layers, student_dim=None, teacher_dim=None):
    """Yield why the j-th filter of the student cannot be matched with the j-th of the teacher; dim None is not looked at."""
    if len(student_layers) != len(teacher_layers):
        yield (
            f"filters are matched one to one: the student has {len(student_layers)}, on layers {_listed(student_layers)}, the "
            f"teacher {len(teacher_layers)}, on layers {_listed(teacher_layers)}; choose --filter_interval and "
            "--teacher_filter_interval so that both have equally many"
        )
    if None not in (student_dim, teacher_dim) and student_dim != teacher_dim:
        yield (
            f"filters must agree in size: the student's make {student_dim}, the teacher's {teacher_dim}; give both stages I "
            "the same --filter_output_dim"
        )


def _listed(layers) -> str:
    return ", ".join(map(str, layers))
