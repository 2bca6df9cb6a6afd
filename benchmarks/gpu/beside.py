"""Sections "relations" and "experts": a MiniLMv2 step beside the naive one, experts beside dense blocks, in
turns."""

import functools

from benchmarks import expert_speed, relation_speed, reporting, timing
from benchmarks.gpu.settings import aim, attempt, extra_memory

STEP = 3  # times as fast as the naive one


def relations(settings):
    """benchmarks.relation_speed: the loss, and a step, beside the naive ones in the same precision."""
    tiny = "--batch_size 2 --num_tokens 12 --vocabulary 1100 --student_layer 1 --teacher_layer 2"
    words = settings.pick("--batch_size 64", "--batch_size 64", tiny)
    args = relation_speed.parse(words.split())
    sides = {"ours": relation_speed.our_loss, "naive": relation_speed.naive_loss}
    yield attempt(
        {"what": "relation loss", "precision": "fp32"}, lambda: ratio(sides, args, settings), settings
    )
    steps = {"ours": relation_speed.our_step, "naive": relation_speed.naive_step}
    for precision in ["fp32"] * settings.pick(1, 1, 0) + [settings.precision]:
        sides = {side: functools.partial(step, precision=precision) for side, step in steps.items()}
        what = {"what": "MiniLMv2 step", "precision": precision}
        row = attempt(what, functools.partial(ratio, sides, args, settings), settings)
        if precision == settings.precision:
            row["aim"] = aim(row.get("naive / ours"), at_least=STEP, settings=settings)
        yield row


def ratio(sides, args, settings) -> dict:
    """Seconds and memory of both, and how many times as long the naive one takes."""
    calls = {side: make(args, device=settings.device) for side, make in sides.items()}
    options = {"number": settings.pick(5, 3, 1), "seconds": settings.pick(1.0, 0.5, 0.0)}
    rounds = timing.in_turns(calls, device=settings.device, **options)
    rounds = [{**row, "naive / ours": row["naive"] / row["ours"]} for row in rounds]
    found = {f"{side} ms": 1000 * reporting.median(rounds, side) for side in calls}
    if settings.device == "cuda":
        found |= {f"{side} MiB": extra_memory(call) for side, call in calls.items()}
    return {**found, "naive / ours": reporting.median(rounds, "naive / ours")}


def experts(settings):
    """benchmarks.expert_speed: a block of four experts beside the dense one, a student beside its dense
    twin."""
    precisions = [precision for precision in ("fp32", "bf16") if precision in ("fp32", *settings.precisions)]
    words = settings.pick(
        "--num_tokens 2048 16384 --batch_size 64 --num_rounds 5 --seconds 0.2",
        "--num_tokens 16384 --batch_size 64 --num_rounds 3 --seconds 0.2",
        "--num_tokens 40 --batch_size 1 --num_rounds 1 --seconds 0.01 --vocabulary 1100",
    )
    precisions = precisions[settings.pick(0, -1, -1) :]
    args = expert_speed.parse([*words.split(), "--device", settings.device, "--precisions", *precisions])
    for what, make in expert_speed.cases(args):
        row = attempt(what, functools.partial(expert_ratio, make, args), settings)
        most = expert_speed.AIMS.get((settings.device, what["precision"], what["tokens"]))
        if most is not None and what["what"] == "block":
            row["aim"] = aim(row.get("experts / dense"), at_most=most, settings=settings)
        yield row


def expert_ratio(make, args) -> dict:
    """Medians of both sides, and of how many times as long the experts take."""
    sides = make()
    rounds = expert_speed.rounds(sides, args)
    found = {f"{side} ms": 1000 * reporting.median(rounds, side) for side in sides}
    return {**found, "experts / dense": reporting.median(rounds, "ratio")}
