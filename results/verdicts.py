"""The claims of README.md, which systems are compared for them, and the rule for a verdict.  A system is a
kind of jobs.py."""

from dataclasses import dataclass
from functools import cache

from data import tasks
from results import records
from utils import bootstrap

SAMPLES = 10000
# Task: how it is called, the metric of the verdicts
METRICS = {
    "mrpc": ("MRPC", "f1"),
    "stsb": ("STS-B", "spearman"),
    "qqp": ("QQP", "f1"),
    "sst2": ("SST-2", "acc"),
    "rte": ("RTE", "acc"),
    "cola": ("CoLA", "matthews_corrcoef"),
    "conll": ("CoNLL-2003", "f1"),
}


@dataclass(frozen=True)
class Claim:
    """pairs: (system, baseline); of a baseline of several kinds the one that hold-out rows prefer is taken.

    margin: a claim of equality holds where the difference is above -margin.
    """

    text: str
    pairs: tuple
    margin: float = 0.0


def _through(system, baseline, tasks):
    """The same pair on several tasks, each given with its block."""
    return tuple((f"{place}_{system}", f"{place}_{baseline}") for place in tasks.split())


PATHS = {scale: f"A1/qqp_over_{scale}S_90S" for scale in (80, 70, 60, 50, 40, 30)}
TED = ("ted", "ted_above_chance", "ted_mean")
STARTS = [("A2", task) for task in ("sst2", "conll")] + [("B3", task) for task in ("sst2", "mrpc", "conll")]
CLAIMS = (
    Claim(
        "1. MiniDisc beats direct distillation at 90%",
        (
            *_through("minidisc_90S", "direct_90S", "B1/mrpc B1/stsb"),
            ("A1/qqp_minidisc_lam_0.2", "A1/qqp_direct_90S"),
            *_through(
                "minidisc_90S", "direct_90S", "A3/sst2 A3/stsb A3/mrpc A3/conll B4/cola B4/rte B4/sst2"
            ),
        ),
    ),
    Claim(
        "2. MiniDisc beats direct distillation at 95%",
        (*_through("minidisc_95S", "direct_95S", "B3/mrpc B3/stsb A3/qqp A3/sst2 A3/stsb A3/mrpc A3/conll"),),
    ),
    Claim(
        "3a. An assistant 2 to 3 times the student beats none",
        tuple((PATHS[s], "A1/qqp_direct_90S") for s in (80, 70)),
    ),
    Claim(
        "3b. ... and beats one of 5 to 7 times",
        tuple((PATHS[s], PATHS[other]) for s in (80, 70) for other in (50, 30)),
    ),
    Claim(
        "4. lambda .2 picks what is as good as MaxiDisc's best path",
        (("A1/qqp_minidisc_lam_0.2", tuple(PATHS.values())),),
        margin=0.003,  # what the published figure's best path gains over none
    ),
    Claim(
        "5. StarK beats the dense teacher",
        tuple((f"A2/qqp_{part}S_stark", f"A2/qqp_{part}S_trial") for part in (70, 90)),
    ),
    Claim(
        "6a. TED beats KD",
        (
            *((f"A2/{task}_3L_{mode}", f"A2/{task}_3L_kd") for task in ("stsb", "qqp") for mode in TED),
            *_through("ted", "kd", "B2/mrpc_6L B2/mrpc_4L B2/stsb_6L B2/stsb_4L"),
        ),
    ),
    Claim("6b. TED beats LWD", tuple((f"A2/{task}_3L_ted", f"A2/{task}_3L_lwd") for task in ("stsb", "qqp"))),
    Claim(
        "6c. TED beats fine-tuning",
        tuple((f"A2/{task}_3L_ted", f"A2/{task}_3L_ft") for task in ("stsb", "qqp")),
    ),
    Claim(
        "7. MiniMoE beats its dense twin",
        tuple((f"A2/moe_experts_{t}", f"A2/moe_dense_{t}") for t in ("sst2", "conll")),
    ),
    Claim(
        "8a. MiniLMv2 beats rows and columns of the teacher",
        tuple((f"{block}/lm_distilled_{task}", f"{block}/lm_slice_{task}") for block, task in STARTS),
    ),
    Claim(
        "8b. MiniLMv2 beats random weights",
        tuple((f"{block}/lm_distilled_{task}", f"{block}/lm_random_{task}") for block, task in STARTS),
    ),
    Claim(
        "9. A student gains from text without labels",
        _through("more", "labelled", "U1/mrpc_90S U1/mrpc_4L U1/conll_90S U1/conll_4L"),
    ),
    Claim(
        "10. A 90S student loses at most half a point by fewer pieces",
        tuple(
            (f"V1/{task}_{pieces}_direct_90S", f"V1/{task}_30522_direct_90S")
            for task in ("mrpc", "stsb", "sst2", "conll")
            for pieces in (16000, 12000, 8000)
        ),
        margin=0.005,
    ),
)


# ---- The rule


@cache
def gold(name, data_dir):
    """Labels of dev as utils.bootstrap compares them.  Raises DataError where the file is not there."""
    task = tasks.get(name)
    labels = task.read(data_dir, task.eval_splits[0]).labels
    return (
        [[task.label_names[i] for i in sentence] for sentence in labels] if task.kind == "tagging" else labels
    )


def predictions(folder, task) -> list:
    """What a record predicts for dev, as gold() has it."""
    lines = (folder / records.PREDICTIONS).read_text(encoding="utf-8").splitlines()
    if task.kind == "classification":
        return [task.submission_labels.index(line) for line in lines]
    return [float(line) if task.kind == "regression" else line.split(" ") for line in lines]


def compare(system, base, *, data_dir, samples=SAMPLES) -> dict:
    """{"difference", "low", "high", "seeds"} of the task's metric in METRICS; of the seeds that both have."""
    task, seeds = tasks.get(system.task), [seed for seed in system.folders if seed in base.folders]
    metric = METRICS[task.name][1]
    sides = [[predictions(side.folders[seed], task) for seed in seeds] for side in (base, system)]
    options = {"samples": samples, "seed": 0}
    found = bootstrap.compare_runs(task.kind, [metric], *sides, gold(task.name, data_dir), **options)[metric]
    return {**found, "seeds": len(seeds)}


def verdict(low, high, *, margin=0.0) -> str:
    """Of an interval of the difference: the rule of README.md."""
    if low > -margin:
        return "confirmed"
    return "contradicted" if high < -margin else "not confirmed here"


def overall(verdicts) -> str:
    """Of a claim over several pairs."""
    found = {*verdicts} - {"not confirmed here"}
    return "mixed" if len(found) > 1 else next(iter(found), "not confirmed here")
