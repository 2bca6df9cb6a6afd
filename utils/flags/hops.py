"""Sizes of relation distillations, of one student or of a chain of them, from flags and configs alone.

Nothing here imports torch.
"""

import math

from utils import families
from utils.errors import CheckpointError, FlagError
from utils.student_sizes import Hop

_RELATION_HEADS = (64, 48, 32, 24, 16, 12)


def hops_of(args, teacher: dict, student: dict | None = None) -> list[Hop]:
    """The distillations of a run, from the configs of teacher and, with --student_model_path, student.

    Raises FlagError with everything that does not fit.
    """
    found, wrong = [], []
    if student is not None:
        chain = [student]
    else:
        sizes = {size: getattr(args, f"student_{size}") for size in ("hidden", "heads", "intermediate")}
        depths = [int(wanted[:-1]) for wanted in args.student_path or []] or [args.student_layer]
        try:
            changes = [families.resized_settings(teacher, {"layers": depth, **sizes}) for depth in depths]
        except CheckpointError as error:
            raise FlagError(f"--student_heads: {error}") from error
        chain = [{"model_type": teacher["model_type"], **change} for change in changes]
    for number, made in enumerate(chain):
        layer = args.teacher_layer if number == 0 else None
        found.append(_hop(args, teacher, made, wrong, layer=layer, is_ours=number > 0 or args.iteration > 1))
        teacher = made
    if wrong:
        raise FlagError("\n".join(dict.fromkeys(wrong)))
    return found


def _hop(args, teacher, student, wrong, *, layer, is_ours):
    """One distillation; its problems are added.  is_ours: the teacher is a student of this method, trained in
    its last layer."""
    family, theirs, ours = (
        families.of(teacher["model_type"]),
        families.sizes(teacher),
        families.sizes(student),
    )
    depth, heads = theirs["layers"], args.num_relation_heads
    if layer is None:
        large = not is_ours and depth == 24 and theirs["hidden"] == 1024
        layer = family.large_layer or depth if large else depth
    elif layer == "last":
        layer = depth
    elif layer > depth:
        wrong.append(f"--teacher_layer {layer}: the teacher has {depth} layers")
    widths = (
        families.projection_widths(teacher, min(layer, depth)),
        families.projection_widths(student, ours["layers"]),
    )
    if args.relation_source == "extra":  # new ones, as wide as the states
        widths = widths[0], dict.fromkeys("qkv", ours["hidden"])
    places = {
        f"teacher's layer {layer}": "another --teacher_layer",
        "student's last layer": "--relation_source extra",
    }
    for found, (place, choice) in zip(widths, places.items()):
        if 0 in found.values():
            wrong.append(f"{place}: no heads are left in it, so it has no relations; choose {choice}")
    for whose, found in zip(("teacher", "student"), widths):
        if unlike := [name for name in args.relations if found[name[0]] != found[name[1]]]:
            wrong.append(
                f"--relations {','.join(unlike)}: the {whose}'s queries are {found['q']} wide, its keys and "
                f"values {found['k']}; expected pairs of the same kind"
            )
    kinds = [kind for kind in "qkv" if any(kind in name for name in args.relations)]
    of_teacher, of_student = ([*dict.fromkeys(found[kind] for kind in kinds)] for found in widths)
    common = math.gcd(*of_teacher, *of_student)
    both = f"the teacher's width {_listed(of_teacher)} and the student's {_listed(of_student)}"
    if heads is None:
        preferred = {12: 48, 24: 64}.get(depth)
        heads = next(
            (number for number in (preferred, *_RELATION_HEADS) if number and common % number == 0), None
        )
        if heads is None:
            wrong.append(f"--num_relation_heads: no preset divides {both}; choose one of {divisors(common)}")
    elif common % heads:
        wrong.append(
            f"--num_relation_heads {heads}: does not divide both {both}; choose one of {divisors(common)}"
        )
    wrong += _no_copies(args.student_init, theirs, ours)
    return Hop(layer, heads, **ours)


def _no_copies(init, teacher, student):
    """What keeps a student from being made of its teacher; both are given by their sizes."""
    sizes = {size: (teacher[size], student[size]) for size in families.SIZES}
    larger = [f"{size} {ours} of {theirs}" for size, (theirs, ours) in sizes.items() if ours > theirs]
    if init == "slice" and larger:
        yield f"--student_init slice: the student must be no larger than its teacher ({', '.join(larger)})"
    equal = {"embeddings": ("hidden",), "layers": ("hidden", "intermediate")}.get(init, ())
    for size in equal:
        theirs, ours = sizes[size]
        if theirs != ours:
            yield f"--student_init {init}: needs a --student_{size} of {theirs}, the teacher's; found {ours}"
    if init == "layers" and sizes["layers"][1] > sizes["layers"][0]:
        yield (
            f"--student_init layers: {sizes['layers'][1]} layers wanted, the teacher has {sizes['layers'][0]}"
        )


def _listed(widths):
    return " and ".join(map(str, widths))


def divisors(number) -> str:
    """The whole numbers that divide one, as a message lists them: 1, 2, 3, 6."""
    return ", ".join(str(divisor) for divisor in range(1, number + 1) if number % divisor == 0)
