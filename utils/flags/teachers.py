"""The groups of flags of stages that distil: the objective, the teacher and its outputs, the student."""

from utils.flags.groups import class_weights
from utils.flags.parser import moderate, non_negative, percent, positive_int, weight


def student(parser):
    """The flag group of StarK's names for the part of a checkpoint that is a student."""
    add = parser.add_argument_group("student").add_argument
    add(
        "--student_sparsity",
        type=percent,
        help="the crop of a nested checkpoint at this sparsity, in percent: 70",
    )
    add("--student_layer", type=positive_int, help="keep this many of its layers: 4")
    add("--layer_choice", choices=("first", "even"), default="first", help="which layers are kept")


def distillation(objectives):
    """The flag group of every stage that learns from a teacher's outputs.  objectives: the module of that
    name."""

    def add_flags(parser):
        add = parser.add_argument_group("distillation").add_argument
        names = ", ".join(f"{name} ({' + '.join(row.terms)})" for name, row in objectives.OBJECTIVES.items())
        add(
            "--model_type",
            help=f"objective, family and head, like kdbert_cls, or the objective alone: {names}",
        )
        add(
            "--temperature",
            type=moderate,
            help="temperature of the soft labels (default: 1; run_stark.py: 2)",
        )
        for name, term in objectives.TERMS.items():
            add(
                f"--{name}_weight",
                type=weight,
                help=f"weight of the {term.help} (default: 1 over the number of the objective's terms)",
            )
        class_weights(parser)
        cache(add, "the teacher's outputs for train")
        teacher_dtype(add)

    return add_flags


def cache(add, what: str):
    """The flags that say whether and where outputs of a frozen model are kept.  resolve() settles them.

    add: a group's add_argument.  what: is kept.
    """
    add(
        "--cache_teacher",
        nargs="?",
        const="memory",
        default=False,
        choices=("memory", "disk"),
        help=f"keep {what}, computed once: in memory (the flag alone), or on the disk, for other runs too",
    )
    add(
        "--cache_dir",
        help="the folder of --cache_teacher disk (default: teacher_outputs/ beside the run folder)",
    )


def teacher_dtype(add):
    """The flag of every stage with a frozen teacher.  add: a group's add_argument."""
    add(
        "--teacher_dtype",
        choices=("fp32", "bf16"),
        help="how the frozen teacher's weights are kept: bf16 takes half the memory (default: fp32)",
    )


def unlabelled(parser):
    """The flag group of more text for distillation.  model_types.check_unlabelled() checks it."""
    add = parser.add_argument_group("text without labels").add_argument
    add(
        "--unlabelled_file",
        nargs="+",
        metavar="FILE",
        help="more rows to train on, with the task's columns of text, or a .txt with one text on each line; "
        "for objectives without the loss against the gold labels",
    )
    add("--unlabelled_only", action="store_true", help="train on these alone")


def balance(parser):
    """The flag group of stages that train a student which may have experts."""
    add = parser.group("experts").add_argument
    add(
        "--load_balance_weight",
        type=non_negative,
        help="weight of the loss that spreads tokens over the student's experts (default: 0.01)",
    )
