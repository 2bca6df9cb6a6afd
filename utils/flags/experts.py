"""Flags of students with experts: how many, how they begin, how tokens find them.  Nothing here imports
torch."""

import argparse
import re
from fractions import Fraction

from utils import families

DEFAULTS = {
    "moe": "1,4",
    "gate_noise": "multiplicative",
    "expert_init": "random",
    "expert_shared_fraction": "2/3",
}


def experts(parser):
    """The flag group of a student's experts; the weight of their balance loss is in teachers.balance."""
    add = parser.group("experts").add_argument
    add(
        "--moe",
        type=counts,
        metavar="X,Y",
        help="numbers of attention and feed-forward experts; 1,1: a dense student (default: 1,4); assistants "
        "are dense",
    )
    add(
        "--gate_noise",
        choices=("multiplicative", "additive", "none"),
        help="noise on the router's logits in training: a factor from 0.9 to 1.1, or a summand from -0.1 to "
        "0.1 (default: multiplicative)",
    )
    add(
        "--expert_init",
        choices=("equal", "random"),
        help=(
            "equal: all are copies, so that the student begins as its dense twin; random: a part of each is "
            "its own, as published (default: random; from a checkpoint equal)"
        ),
    )
    add(
        "--expert_shared_fraction",
        type=exact_fraction,
        metavar="S",
        help="with random: share of the neurons (or heads) that all experts begin with in common (default: "
        "2/3)",
    )
    add(
        "--route_padding",
        action="store_true",
        help="send padding to experts too, and count it in the balance loss, as published",
    )


def counts(text) -> str:
    """A flag type: `1,4`, two whole numbers of at least 1."""
    match = re.fullmatch(r"\s*0*([1-9]\d*)\s*,\s*0*([1-9]\d*)\s*", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected attention and feed-forward experts, each at least 1, like 1,4"
        )
    return f"{match[1]},{match[2]}"


def exact_fraction(text) -> str:
    """A flag type: a number from 0 to 1, exactly: `2/3` or `0.5`."""
    try:
        exact = len(text) <= 40 and "e" not in text.lower()  # 1e999999999 would be written out
        value = Fraction(text) if exact else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a fraction from 0 to 1, like 2/3 or 0.5")
    return str(value)


def numbers(args) -> dict:
    """{"attention": x, "ffn": y} of the resolved flags."""
    return dict(zip(("attention", "ffn"), map(int, args.moe.split(","))))


def options(args) -> dict:
    """What the flags say, by the names that models.moe_bert takes it under."""
    return {**numbers(args), "noise": args.gate_noise, "route_padding": args.route_padding, "seed": args.seed}


def check_experts(args, teacher: dict | None, student: dict | None, *, student_has_weights: bool):
    """Yield what is wrong with the flags of experts(); fill in their defaults.

    teacher, student: their configs as far as they are known.  student_has_weights: of --student_model_path; a
    student that is a config alone is made from nothing, any other one has its experts already, or is turned
    into equal ones ("upcycled").
    """
    given = [f"--{flag}" for flag in DEFAULTS if getattr(args, flag) is not None] + [
        "--route_padding"
    ] * args.route_padding
    if families.has_experts(student):
        if given:
            yield (
                f"{', '.join(given)}: --student_model_path has experts already ({student['model_type']}); "
                "leave this out"
            )
        return
    if student_has_weights:
        if args.expert_init == "random":
            yield (
                "--expert_init random: experts begin as copies of the sublayers of --student_model_path; "
                "expected equal"
            )
        args.expert_init = "equal"
    if args.expert_init == "equal":
        if args.expert_shared_fraction not in (None, "1"):
            yield (
                f"--expert_shared_fraction {args.expert_shared_fraction}: with --expert_init equal, as from "
                "a checkpoint, all experts begin as copies of a whole sublayer; leave it out"
            )
        args.expert_shared_fraction = "1"
    for flag, default in DEFAULTS.items():
        if getattr(args, flag) is None:
            setattr(args, flag, default)
    experts = numbers(args)
    if args.moe == "1,1":
        for flag in [*given, *(["--load_balance_weight"] if args.load_balance_weight is not None else [])]:
            if flag != "--moe":
                yield f"{flag}: has no meaning with --moe 1,1, which has no experts"
        return
    model = student or teacher
    for mixture, number in experts.items():
        refusal = (
            families.refusal(model["model_type"], f"{mixture} experts") if model and number > 1 else None
        )
        if refusal:
            yield f"--moe {args.moe}: {refusal}"
    sizes = {"heads": args.student_heads, "intermediate": args.student_intermediate}
    sizes = (families.sizes(student) or sizes) if student else sizes
    if not student_has_weights and sizes["heads"] and sizes["intermediate"]:
        # Those that share a key go together
        heads = sizes["heads"] // (families.heads_per_key(model) if model else 1)
        sizes = {"attention": (heads, "heads"), "ffn": (sizes["intermediate"], "feed-forward neurons")}
        for mixture, (size, what) in sizes.items():
            if experts[mixture] > 1 and (size * Fraction(args.expert_shared_fraction)).denominator > 1:
                nearest = round(size * Fraction(args.expert_shared_fraction))
                yield (
                    f"--expert_shared_fraction {args.expert_shared_fraction}: of {size} {what} that is no "
                    f"whole number; choose a multiple of 1/{size}, like {nearest}/{size}"
                )
