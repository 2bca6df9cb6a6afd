"""What TED's filters are like and what they belong to: filters.json of a checkpoint, read without torch to
check the flags."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from utils import checkpoints, files, logs
from utils.errors import CheckpointError

SPEC, WEIGHTS = "filters.json", "filters.safetensors"


@dataclass(frozen=True)
class FilterSpec:
    """Filters of one model.

    task: what they were trained for.  num_layers, hidden_size: of the model.  layers: the filtered hidden
    states, from 1, ascending.  output_dim: what they make of a state.  nonlinear: two linear layers instead
    of one.
    pooled: they were trained for the mean over real tokens of what they make (--filter_token mean), which is
    matched too.
    heads: of each layer a row, how its filter's head did beside a constant answer, on dev or what was held
    out: {"layer", "metric", "score", "baseline", "low", "high", "above"}, see utils.chance; None where that
    is not known.
    """

    task: str
    num_layers: int
    hidden_size: int
    layers: list[int]
    output_dim: int
    nonlinear: bool
    pooled: bool = False
    heads: list[dict] | None = None

    def write(self, folder):
        """Write filters.json into a folder."""
        files.write_json(Path(folder) / SPEC, asdict(self))


def filtered_layers(num_layers: int, interval: int) -> list[int]:
    """Which hidden states are filtered: interval, 2 interval, ... up to num_layers, counted from 1 (0 is the
    embeddings)."""
    return list(range(interval, num_layers + 1, interval))


def read_spec(path) -> FilterSpec | None:
    """The specification beside a local checkpoint or finished run; None for a hub name, which is looked up
    when it is loaded.

    Raises CheckpointError where there is none, or it is damaged.
    """
    folder = Path(checkpoints.folder_of(path))
    if not folder.is_dir():
        return None
    file = folder / SPEC
    if not file.exists():
        raise CheckpointError(
            f"{path}: no filters ({SPEC}) beside this model; make them with run_ted.py --mode filters"
        )
    try:
        values = files.read_json(file)
        spec = FilterSpec(**values)
    except (ValueError, TypeError) as error:
        names = ", ".join(field.name for field in fields(FilterSpec))
        raise CheckpointError(
            f"{file}: expected a JSON object with {names} ({error}); write the filters again"
        ) from error
    counts = [
        spec.num_layers,
        spec.hidden_size,
        spec.output_dim,
        *(spec.layers if isinstance(spec.layers, list) else [None]),
    ]
    whole = all(type(count) is int and count > 0 for count in counts)
    whole = (
        whole and {type(spec.nonlinear), type(spec.pooled)} == {bool} and _are_heads(spec.heads, spec.layers)
    )
    if (
        not whole
        or spec.layers != sorted({*spec.layers})
        or not spec.layers
        or spec.layers[-1] > spec.num_layers
    ):
        raise CheckpointError(
            f"{file}: these are no filters of a model with {spec.num_layers} layers: {values}"
        )
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


def contradictions(
    spec: FilterSpec, *, interval=None, output_dim=None, nonlinear=False, token=None, prefix=""
):
    """Yield which flags say something else than the checkpoint's filters; what is None or False has not been
    given."""
    if interval is not None and spec.layers != filtered_layers(spec.num_layers, interval):
        yield (
            f"--{prefix}filter_interval {interval}: the checkpoint's filters are on layers "
            f"{_listed(spec.layers)}"
        )
    if output_dim is not None and output_dim != spec.output_dim:
        yield (
            f"--{prefix}filter_output_dim {output_dim}: outputs of the checkpoint's filters have the size "
            f"{spec.output_dim}"
        )
    if nonlinear and not spec.nonlinear:
        yield f"--{prefix}filter_nonlinear: the checkpoint's filters are linear"
    if token is not None and token != token_of(spec):
        yield (
            f"--filter_token {token}: the checkpoint's filters were trained with --filter_token "
            f"{token_of(spec)}"
        )


def token_of(spec: FilterSpec) -> str:
    """What --filter_token these filters were trained with."""
    return "mean" if spec.pooled else "first"


def unmatched(student_layers, teacher_layers, student_dim=None, teacher_dim=None, tokens=None):
    """Yield why the j-th filter of the student cannot be matched with the j-th of the teacher; what is None
    is not looked at.

    tokens: token_of() both.
    """
    if len(student_layers) != len(teacher_layers):
        yield (
            f"filters are matched one to one: the student has {len(student_layers)}, on layers "
            f"{_listed(student_layers)}, the teacher {len(teacher_layers)}, on layers "
            f"{_listed(teacher_layers)}; choose --filter_interval and --teacher_filter_interval so that both "
            "have equally many"
        )
    if None not in (student_dim, teacher_dim) and student_dim != teacher_dim:
        yield (
            f"outputs of filters must have one size: found {student_dim} of the student's filters and "
            f"{teacher_dim} of the teacher's; give both stages I the same --filter_output_dim"
        )
    if tokens is not None and tokens[0] != tokens[1]:
        yield (
            f"filters must read the same token: the student's were trained with --filter_token {tokens[0]}, "
            f"the teacher's with {tokens[1]}; give both stages I the same"
        )


def above_chance(student: FilterSpec, teacher: FilterSpec) -> list[int]:
    """Which of the pairs, from 0, have heads above chance on both sides.

    Raises CheckpointError with the table of all heads where there is none, and where one side's scores are
    not known.
    """
    for side, spec in (("student", student), ("teacher", teacher)):
        if spec.heads is None:
            raise CheckpointError(
                f"--filters above_chance: it is not known how the heads of the {side}'s filters did; write "
                "its filters again (run_ted.py --mode filters)"
            )
    pairs = [*zip(student.heads, teacher.heads)]
    if chosen := [number for number, (ours, theirs) in enumerate(pairs) if ours["above"] and theirs["above"]]:
        return chosen
    rows = [
        {"side": side, **row}
        for side, spec in (("student", student), ("teacher", teacher))
        for row in spec.heads
    ]
    raise CheckpointError(
        "--filters above_chance: found no pair of filters whose heads are above chance on both sides; train "
        f"them for longer, or take --filters all\n{logs.table(rows)}"
    )


def picked(spec: FilterSpec, numbers) -> FilterSpec:
    """The specification of some of the filters, by their numbers from 0."""
    heads = spec.heads and [spec.heads[number] for number in numbers]
    return replace(spec, layers=[spec.layers[number] for number in numbers], heads=heads)


def _are_heads(heads, layers) -> bool:
    if heads is None:
        return True
    return (
        isinstance(heads, list)
        and all(isinstance(row, dict) and type(row.get("above")) is bool for row in heads)
        and [row.get("layer") for row in heads] == layers
    )


def _listed(layers) -> str:
    return ", ".join(map(str, layers))
