"""Sections "finetuning", "deterministic", "distillation", "minidisc": rates of BERT-base in the scripts' own
loop.

tokens: real ones; padding is no work that anybody wants.
FLOPs: of these tokens; torch's count of a forward pass, three times for what is trained, once for a teacher.
MFU: FLOPs a second over the card's peak in bf16.
time: from update to update, over all updates that are timed; the median over the rounds, in each another
    order of rows.
"""

import copy

import numpy as np

import models
import run_distillation
import run_finetuning
import run_minidisc
from benchmarks import reporting, training_cases
from benchmarks.gpu import made_up, resuming
from benchmarks.gpu.settings import aim, attempt
from benchmarks.training_cases import WARMUP
from models import measuring

MFU = 0.35
STEP_OVER_PARTS = 1.15  # as on a CPU
COUNTED_AT = (8, 16, 24)  # tokens of an example


def finetuning(settings):
    """One row for each batch size; the best of them is to reach the aim."""
    best = None
    for batch_size in settings.pick((32, 128, 512), (128, 512), (8,)):
        row = trained("fine-tuning, BERT-base", settings, run_finetuning, batch_size=batch_size)
        best = max(filter(None, (best, row.get("MFU"))), default=None)
        yield row
    yield {"what": "fine-tuning, best MFU", "MFU": best, "aim": aim(best, at_least=MFU, settings=settings)}


def deterministic(settings):
    """What kernels cost that always give the same bits."""
    resuming.always_the_same_bits()
    yield trained("fine-tuning, always the same bits", settings, run_finetuning)


def distillation(settings):
    """To 90% sparsity, with the teacher's outputs computed anew and cached."""
    yield trained("distillation to 90S, teacher run", settings, run_distillation)
    yield trained("distillation to 90S, teacher cached", settings, run_distillation, "--cache_teacher")


def minidisc(settings):
    """A step of all candidates, and what it takes beside the sum of its parts."""
    row = trained("MiniDisc step", settings, run_minidisc)
    yield row
    parts = attempt(
        {"what": "MiniDisc, its parts", "precision": settings.precision}, lambda: parts_of(settings), settings
    )
    if "step ms" in row and "sum ms" in parts:
        parts["step / sum"] = row["step ms"] / parts["sum ms"]
        parts["aim"] = aim(parts["step / sum"], at_most=STEP_OVER_PARTS, settings=settings)
    yield parts


def usual(settings) -> int:
    """Examples of a batch where nothing else is said."""
    return settings.pick(128, 128, 8)


def trained(what, settings, script, *words, batch_size=None) -> dict:
    """The row of a script's training."""
    batch_size = batch_size or usual(settings)
    said = {"what": what, "precision": settings.precision, "batch": batch_size}
    return attempt(said, lambda: measure(settings, script, *words, batch_size=batch_size), settings)


def measure(settings, script, *words, batch_size) -> dict:
    """Rates of a script's training."""
    number = settings.pick(20, 10, 2)
    case = made_up.case(settings, batch_size=batch_size, num_batches=WARMUP + number)
    count, rounds = flops_of(case, script), []
    # A GPU loads kernels for each shape that it has not seen: a round before the first one counts for nothing
    for turn in range(settings.pick(-1, -1, 0), settings.pick(3, 2, 1)):
        seed = max(0, turn)
        steps, _, _ = training_cases.time_updates(script, case, *words, number=number, seed=seed)
        if turn < 0:
            continue
        batches = [case.train.lengths[rows] for rows in training_cases.order(case, number, seed)[WARMUP:]]
        seconds, tokens = float(np.sum(steps)), int(sum(lengths.sum() for lengths in batches))
        padded = sum(lengths.max() * len(lengths) for lengths in batches)
        flops = sum(count(lengths, cached="--cache_teacher" in words) for lengths in batches)
        rounds.append(
            {
                "tokens/s": round(tokens / seconds),
                "examples/s": round(batch_size * number / seconds),
                "step ms": 1000 * seconds / number,
                "tokens a step": round(tokens / number),
                "padding": 1 - tokens / padded,
                "TFLOP/s": flops / seconds / 1e12,
            }
        )
    found = {key: type(value)(reporting.median(rounds, key)) for key, value in rounds[0].items()}
    if settings.peak is not None:
        found["MFU"] = found["TFLOP/s"] * 1e12 / settings.peak
    return found


def parts_of(settings) -> dict:
    """Mean seconds of each part of a MiniDisc step, and their sum."""
    number = settings.pick(10, 5, 1)
    case = made_up.case(settings, batch_size=usual(settings), num_batches=WARMUP + number)
    parts = training_cases.time_parts(case, number=number, seed=0)
    means = {part: 1000 * float(np.mean(times)) for part, times in parts.items()}
    return {"sum ms": sum(means.values()), "parts ms": means}


def flops_of(case, script):
    """A function (lengths of examples, cached=...) that counts FLOPs.  cached: the teacher does not run."""
    teacher = models.load_model(case.teacher, **case.kinds)
    if script is run_finetuning:
        weighted = [(3, teacher)]
    elif script is run_distillation:
        weighted = [(1, teacher), (3, models.crop(teacher, training_cases.TARGET))]
    else:
        words = [
            "--task_name",
            case.task.name,
            "--data_dir",
            case.args.data_dir,
            "--teacher_model_path",
            case.teacher,
        ]
        trained = training_cases.first_hop(teacher, run_minidisc.parse([str(word) for word in words]))[1]
        weighted = [(1, teacher), *((3, models.crop(teacher, s)) for s in trained)]
    counted = [(weight, forward_flops(copy.deepcopy(model).to("meta"))) for weight, model in weighted]

    def count(lengths, *, cached):
        return sum(
            weight * of_length(lengths).sum() for weight, of_length in counted if not (cached and weight == 1)
        )

    return count


def forward_flops(model):
    """The polynomial (length) -> FLOPs of a forward pass of one example.

    It is one of second degree: products with weights grow with the length, attention's with its square, a
    pooler's not at all.
    """
    return np.polynomial.Polynomial.fit(
        COUNTED_AT, [measuring.example_flops(model, length) for length in COUNTED_AT], deg=2
    )
