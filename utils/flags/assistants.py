"""The flags of run_maxidisc.py and run_minidisc.py, which distil by way of teacher assistants, and what can
be wrong with them.

Nothing here imports torch.
"""

import itertools

from utils import families
from utils.flags import model_types
from utils.flags.checks import check_config, check_hold_out, check_student
from utils.flags.groups import model_path
from utils.flags.parser import (
    candidates,
    count,
    layer_or_sparsity,
    path_of_students,
    percent,
    positive_int,
    rates,
    weight,
)

# ---- MaxiDisc


def maxidisc(parser):
    """The flag group of given paths, and of all.  check_maxidisc() checks it."""
    model_path(parser, "--teacher_model_path", "the teacher; nested for sparsities")
    add = parser.add_argument_group("maxidisc").add_argument
    add(
        "--layer_or_sparsity_path",
        type=path_of_students,
        help="the assistants and the student: 80,90S or 6,4L or 80S,6L",
    )
    add(
        "--all_paths",
        action="store_true",
        help="every path to --target with one assistant, and the direct one",
    )
    add("--target", type=layer_or_sparsity, default="90S", help="the student of --all_paths: 90S or 4L")
    add(
        "--trunc_sparsity",
        type=percent,
        default=50,
        help="smallest sparsity of an assistant of --all_paths; 0: any",
    )
    add("--layer_choice", choices=("first", "even"), default="first", help="which layers 4L keeps")
    add("--hops_dir", help="where finished hops are kept and found (default: hops/ beside the run folder)")


def check_maxidisc(args, task, *, objectives):
    """Yield what is wrong.  task: an entry of the registry.  objectives: {name: row} that a hop may have."""
    teacher = yield from check_config(args, "teacher_model_path")
    yield from model_types.check_model_type(args, task, teacher, objectives=objectives)
    yield from model_types.check_unlabelled(args, "sparse", objectives)
    name = model_types.objective_of(args.model_type, "sparse", objectives)
    yield from model_types.check_terms(args, name, objectives)
    if bool(args.layer_or_sparsity_path) == args.all_paths:
        yield "--layer_or_sparsity_path, --all_paths: give one of them"
    if args.layer_or_sparsity_path and teacher:
        yield from check_path(args.layer_or_sparsity_path, teacher)
    if args.all_paths and teacher:
        yield from check_student(args.target, teacher, "--target")
    yield from check_hold_out(args, {"teacher_model_path": teacher}, trained=["teacher_model_path"])


def check_path(path: list[str], teacher: dict):
    """Yield what is wrong with a path of students from a teacher with this config: each must be smaller than
    the one before."""
    for wanted in path:
        yield from check_student(wanted, teacher, "--layer_or_sparsity_path")
    for before, after in itertools.pairwise(path):
        if before.endswith("L") and after.endswith("S"):
            yield (
                f"--layer_or_sparsity_path: {after} after {before}; a model with fewer layers has no grid: "
                "sparsities go first"
            )
    for unit, shrinks, what in (
        ("L", lambda a, b: b < a, "fewer layers"),
        ("S", lambda a, b: b > a, "a higher sparsity"),
    ):
        sizes = [float(wanted[:-1]) for wanted in path if wanted.endswith(unit)]
        for before, after in itertools.pairwise(sizes):
            if not shrinks(before, after):
                yield (
                    f"--layer_or_sparsity_path: {after:g}{unit} after {before:g}{unit}; a student needs "
                    f"{what} than its teacher"
                )


# ---- MiniDisc


def minidisc(parser):
    """The flag group of the assistant's choice.  check_minidisc() checks it."""
    model_path(parser, "--teacher_model_path", "the nested teacher")
    add = parser.add_argument_group("minidisc").add_argument
    add(
        "--target_sparsity",
        type=percent,
        default=90,
        help="sparsity of the student, in percent, from the teacher's grid",
    )
    add("--target_iteration", type=positive_int, default=2, help="hops: the number of assistants + 1")
    add(
        "--lam",
        type=weight,
        default=0.2,
        help="lambda: what a sparsity of 100%% is worth, in units of the metric",
    )
    add(
        "--candidates",
        type=candidates,
        default="tens",
        metavar="LIST",
        help="the assistant's possible sparsities: 70,80; `tens`: multiples of ten; `grid`: all grid points",
    )
    add(
        "--trunc_sparsity",
        type=percent,
        default=50,
        help="smallest sparsity trained in the hops before the last (0: the whole grid); without a list of "
        "candidates also the smallest assistant",
    )
    add(
        "--learning_rates",
        type=rates,
        metavar="LIST",
        help="a learning rate for each hop: 6e-4,3e-4 (default: --learning_rate for all)",
    )
    add(
        "--include_target",
        action="store_true",
        help="the student's own sparsity is a candidate too (the published behaviour)",
    )
    add(
        "--train_grid",
        choices=("all", "sandwich"),
        default="all",
        help="at every update train all sparsities, or (sandwich) the largest, the smallest and some others",
    )
    add(
        "--num_sandwich", type=count, default=2, help="sandwich: how many others, drawn anew for every update"
    )
    add(
        "--final_hop",
        choices=("target", "grid"),
        default="target",
        help="the last hop trains the student alone, or the grid from its teacher's sparsity on",
    )


def check_minidisc(args, task, *, objectives):
    """Yield what is wrong.  task: an entry of the registry.  objectives: {name: row} that a hop may have."""
    teacher = yield from check_config(args, "teacher_model_path")
    yield from model_types.check_model_type(args, task, teacher, objectives=objectives)
    yield from model_types.check_unlabelled(args, "sparse", objectives)
    name = model_types.objective_of(args.model_type, "sparse", objectives)
    yield from model_types.check_terms(args, name, objectives)
    if teacher:
        source = f"teacher (--teacher_model_path {args.teacher_model_path})"
        yield from check_student(f"{args.target_sparsity:g}S", teacher, "--target_sparsity", source=source)
        yield from _check_candidates(args, teacher)
    if args.learning_rates and len(args.learning_rates) != args.target_iteration:
        yield (
            f"--learning_rates: found {len(args.learning_rates)}; expected one for each of "
            f"{args.target_iteration} hops"
        )
    yield from check_hold_out(args, {"teacher_model_path": teacher}, trained=["teacher_model_path"])


def _check_candidates(args, teacher: dict):
    """Yield what is wrong with a list of --candidates for a teacher with this config and
    --target_sparsity."""
    compression = teacher.get("compression") or {}
    grid = families.grid(teacher)
    if isinstance(args.candidates, str) or not grid:
        return
    own, shown = compression.get("sparsity", 0), ", ".join(f"{s:g}" for s in args.candidates)
    points = ", ".join(f"{s:g}" for s in grid)
    if not all(s in grid for s in args.candidates):
        yield f"--candidates {shown}: not all in the teacher's grid: {points}"
    elif not all(own < s < args.target_sparsity for s in args.candidates):
        yield (
            f"--candidates {shown}: expected sparsities between the teacher's, {own:g}, and the student's, "
            f"{args.target_sparsity:g}; the teacher's grid: {points}"
        )
