"""Flags of models that are parts of a larger one: crops of an encoder that was sorted on a corpus,
once-for-all students.

Nothing here imports torch.
"""

import argparse

from utils.flags.checks import check_student
from utils.flags.parser import percent, positive_int
from utils.student_sizes import Part


def students(parser):
    """The flag group of students that are crops or once-for-all.  check_students() checks it."""
    add = parser.add_argument_group("parts").add_argument
    add(
        "--sparsity",
        type=percent,
        metavar="S",
        help="train the crop at S percent of --student_model_path (default: of the teacher), sorted on a "
        "corpus",
    )
    add(
        "--ofa_layer",
        type=descending,
        metavar="6,4,3",
        help=(
            "once-for-all: one student whose parts, of each of these depths and widths, are trained with "
            "it (default: 6,4,3)"
        ),
    )
    add(
        "--ofa_hidden",
        type=descending,
        metavar="768,...,192",
        help="the widths (default: 768,512,384,256,192)",
    )


def descending(text) -> list[int]:
    """A flag type: whole numbers, `6,4,3`, descending and without repeats."""
    try:
        values = sorted({positive_int(part.strip()) for part in text.split(",")}, reverse=True)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}; expected numbers like 6,4,3") from None
    return values


def fill_students(args):
    """Give the flags of students() and what follows from them their values; yield what contradicts what.

    Before relations.check_relations(), which sees the largest part, or the model that is cropped, as the
    student.
    """
    is_ofa, is_crop = bool(args.ofa_layer or args.ofa_hidden), args.sparsity is not None
    own = [flag for flag, given in (("--sparsity", is_crop), ("--ofa_layer, --ofa_hidden", is_ofa)) if given]
    if not own:
        args.relation_source = args.relation_source or "last"
        return
    if len(own) > 1:
        yield f"{' and '.join(own)}: each says what the student is; give one"
    sizes_too = (
        "student_layer",
        "student_hidden",
        "student_intermediate",
        "student_path",
        "student_heads",
        "student_init",
    )
    refused = sizes_too if is_crop else (*sizes_too[:4], "student_model_path")
    if given := [f"--{name}" for name in refused if getattr(args, name) is not None]:
        yield f"{', '.join(given)}: {own[0]} says what the student is; leave this out"
        return
    if args.relation_source == "last":
        yield (
            f"--relation_source last: {own[0]} needs extra projections, for all layers of all parts to be "
            "trained"
        )
    args.relation_source = "extra"
    if is_crop:
        args.student_model_path = args.student_model_path or args.teacher_model_path
        return
    if args.compile:
        yield "--compile: has no effect on once-for-all students; leave it out"
    args.ofa_layer = args.ofa_layer or [6, 4, 3]
    args.ofa_hidden = args.ofa_hidden or [768, 512, 384, 256, 192]
    args.student_layer, args.student_hidden = args.ofa_layer[0], args.ofa_hidden[0]
    args.student_heads = args.student_heads or max(args.student_hidden // 64, 1)
    args.num_relation_heads = args.num_relation_heads or 32  # as published; it must divide every width
    head = args.student_hidden // args.student_heads
    for width in args.ofa_hidden:
        if width % head:
            yield (
                f"--ofa_hidden {width}: no multiple of {head}, the size of a head; choose other widths, or "
                "--student_heads"
            )
        if width % args.num_relation_heads:
            yield f"--num_relation_heads {args.num_relation_heads}: does not divide --ofa_hidden {width}"


def check_students(args, student: dict | None):
    """Yield what is wrong with --sparsity for a student with this config; None: not known yet."""
    if args.sparsity is not None and student is not None:
        yield from check_student(f"{args.sparsity:g}S", student, "--sparsity", source="student")


def name(args) -> str:
    """What the name of a run ends with."""
    return f"_{args.sparsity:g}S" if args.sparsity is not None else "_ofa" if args.ofa_layer else ""


def parts(args) -> list[Part]:
    """The parts of a once-for-all student, the whole one last; of the resolved flags."""
    head, ratio = args.student_hidden // args.student_heads, args.student_intermediate // args.student_hidden
    made = [
        Part(layers, width, width // head, ratio * width)
        for layers in args.ofa_layer
        for width in args.ofa_hidden
    ]
    return sorted(made, key=lambda part: (part.layers, part.hidden))
