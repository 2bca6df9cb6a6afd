"""Training speed on real data: our loop beside the plain recipe, a MiniDisc step beside its candidates' own
costs, peak memory.

    OMP_NUM_THREADS=1 python -m benchmarks.training_speed --data_dir datasets --encoder path/to/encoder \\
        --output speed.json
Needs the tasks' real files and a BERT checkpoint with its tokenizer; about 6 minutes on one core. Prints
tables, writes JSON.

What is compared, and how:
    rounds      ours, plain, ours, plain, ... in one process and on one thread; a ratio is taken within each
                round, and the median over the rounds is given with the smallest and the largest
    time        CPU time of the process: on a quiet machine the wall time, on a busy one still nearly what
                that would be
    ours        training.fit with the scripts' objectives and default flags, timed from update to update
    plain       benchmarks/plain_recipe.py; it gains a little from the setting of the memory allocator
                (utils/allocator.py), which our loop makes for the whole process
    rows        batches of one real epoch, evenly spaced in length; "allowed" is what padding alone allows on
                the batches timed: 128 over their mean length
    rates       with tokenising, spread over 10 epochs; and so with the one pass of the teacher whose outputs
                are kept (--cache_teacher)
    own costs   of a MiniDisc step: the teacher's forward pass, forward and backward of each candidate when
                cropped, one clipped update of the largest; the step itself does all that, and collates,
                checks and logs
    memory      highest resident set of a process of its own that trains on the longest examples: before, in
                training, saving
The encoder has a random head and its units are scored on a few batches: speed does not depend on what the
weights are.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import run_distillation
import run_finetuning
import run_minidisc
from benchmarks import plain_recipe, timing
from benchmarks.reporting import begin, finish, median, peak, quiet, spread
from benchmarks.training_cases import (
    TARGET,
    WARMUP,
    parser_of_paths,
    prepare,
    time_parts,
    time_updates,
    train,
)
from utils import logs

EPOCHS = plain_recipe.PUBLISHED_EPOCHS
# Aims: of what padding allows, of the sum of its parts
FINETUNING, DISTILLATION, MINIDISC = 0.9, 0.9 * 1.3, 1.15
MEMORY_UPDATES = 2
VARIANTS = {
    "fine-tuning": (run_finetuning,),
    "fine-tuning, plain": plain_recipe.finetune_steps,
    "distillation": (run_distillation,),
    "distillation, teacher cached": (run_distillation, "--cache_teacher"),
    "distillation, plain": plain_recipe.distil_steps,
    "MiniDisc, 50% to 85%": (run_minidisc,),
    "MiniDisc, 50% alone": (run_minidisc, "--target_sparsity", 60),
}


def parse(argv=None):
    """The flags."""
    parser = parser_of_paths(__doc__)
    add = parser.add_argument
    add("--tasks", nargs="+", default=["mrpc", "rte", "sst2"], help="classification tasks")
    add(
        "--minidisc_tasks",
        nargs="*",
        default=["mrpc", "sst2"],
        help="those of them that the MiniDisc step is timed on",
    )
    add("--batch_size", type=int, default=16)
    add("--num_rounds", type=int, default=3)
    add("--num_updates", type=int, default=10, help="ours, timed per round")
    add("--num_plain_steps", type=int, default=3, help="plain, timed per round; one is as wide as the other")
    add("--num_minidisc_updates", type=int, default=3, help="timed per round")
    return parser.parse_args(argv)


def main(argv=None):
    """Measure, print, write; returns what is written."""
    args = parse(argv)
    found = begin("training_speed", argv)
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            name: prepare(name, args, Path(folder, name), num_batches=WARMUP + args.num_updates)
            for name in args.tasks
        }
        task = args.tasks[0]
        found["memory"] = {
            "task": task,
            **{variant: memory(variant, args, Path(folder, task)) for variant in VARIANTS},
        }
        rounds = {name: {"finetuning": [], "distillation": [], "minidisc": []} for name in cases}
        for seed in range(args.num_rounds):
            for name, case in cases.items():
                rounds[name]["finetuning"].append(finetuning_round(case, seed))
                rounds[name]["distillation"].append(distillation_round(case, seed))
                if name in args.minidisc_tasks:
                    rounds[name]["minidisc"].append(minidisc_round(case, seed))
        found["tasks"] = {name: {**cases[name].facts, **rounds[name]} for name in cases}
    return finish(found, report, args.output)


# ---- One round of each comparison: ours, then the other


def finetuning_round(case, seed) -> dict:
    """Fine-tuning beside the plain recipe."""
    args = case.args
    steps, lengths, _ = time_updates(run_finetuning, case, number=args.num_updates, seed=seed)
    plain = plain_recipe.finetune_steps(
        case.encoder,
        case.texts,
        case.labels,
        args.batch_size,
        args.num_plain_steps,
        seed=seed,
        clock=time.process_time,
    )
    return _compare(case, steps, 0.0, lengths, plain)


def distillation_round(case, seed) -> dict:
    """Distillation to 90% with the teacher's outputs cached beside the plain recipe."""
    args = case.args
    steps, lengths, caching = time_updates(
        run_distillation, case, "--cache_teacher", number=args.num_updates, seed=seed
    )
    plain = plain_recipe.distil_steps(
        case.teacher,
        case.student,
        case.texts,
        case.labels,
        args.batch_size,
        args.num_plain_steps,
        seed=seed,
        clock=time.process_time,
    )
    caching /= len(case.train)
    return {**_compare(case, steps, caching, lengths, plain), "caching_examples_per_s": 1 / caching}


def _compare(case, steps, once, lengths, plain):
    """Rates and ratios of a round.  steps: seconds of our updates.  once: seconds per example, of what is
    done once."""
    training = float(np.mean(steps)) / case.args.batch_size
    ours = 1 / (training + (1 / case.facts["tokenising_examples_per_s"] + once) / EPOCHS)
    allowed = plain_recipe.MAX_LENGTH / float(np.mean(lengths))
    ratio = ours / plain["examples_per_s"]
    return {
        "ours_examples_per_s": ours,
        "plain_examples_per_s": plain["examples_per_s"],
        "ratio": ratio,
        "padding_allows": allowed,
        "ratio_over_padding": ratio / allowed,
        "updates_ratio": 1 / training / plain["training_examples_per_s"],
        "plain_tokenising_examples_per_s": plain["tokenising_examples_per_s"],
    }


def minidisc_round(case, seed) -> dict:
    """A step of all candidates together beside the sum of its parts alone, on the same batches."""
    number = case.args.num_minidisc_updates
    steps, *_ = time_updates(run_minidisc, case, number=number, seed=seed)
    parts = {
        part: float(np.mean(times)) for part, times in time_parts(case, number=number, seed=seed).items()
    }
    return {
        "step_s": float(np.mean(steps)),
        "parts_s": parts,
        "ratio": float(np.mean(steps)) / sum(parts.values()),
    }


# ---- Memory


def memory(variant, args, folder) -> dict:
    """Peak of a process of its own, in MiB."""
    return timing.in_own_process(_memory, variant, args, folder)


def _memory(variant, args, folder):
    torch.set_num_threads(1)
    quiet()
    case = prepare(folder.name, args, folder, num_batches=WARMUP + MEMORY_UPDATES, longest=True)
    peaks = {"before": peak()}
    if callable(VARIANTS[variant]):
        checkpoints = (
            [case.encoder]
            if VARIANTS[variant] is plain_recipe.finetune_steps
            else [case.teacher, case.student]
        )
        VARIANTS[variant](*checkpoints, case.texts, case.labels, args.batch_size, MEMORY_UPDATES)
        peaks["training"] = peak()
    else:
        script, *flags = VARIANTS[variant]
        peaks["training"] = train(script, case, *flags, number=WARMUP + MEMORY_UPDATES, read=peak)[0][-1]
        peaks["saving"] = peak()
    return peaks


# ---- What is printed


def report(found) -> str:
    """The tables."""
    cases = found["tasks"].items()
    stages = (
        ("finetuning", "Fine-tuning", FINETUNING),
        ("distillation", f"Distillation to {TARGET}%", DISTILLATION),
    )
    lines = []
    for stage, title, aim in stages:
        lines += [
            f"{title}: examples/s beside the plain recipe (aim: {aim:.2f} times what padding allows, or more)"
        ]
        lines += [logs.table([_rates(name, values[stage], aim) for name, values in cases])]
    lines += [f"What is done once, for all {EPOCHS} epochs: examples/s; and the training data as a whole"]
    lines += [logs.table([_once(name, values) for name, values in cases])]
    lines += [f"MiniDisc step over the sum of its parts alone, in seconds (aim: {MINIDISC} or less)"]
    lines += [logs.table([_step(name, values["minidisc"]) for name, values in cases if values["minidisc"]])]
    lines += [
        f"Peak memory on the longest examples of {found['memory']['task']}, MiB (the cache of all rows comes "
        "on top)"
    ]
    rows = [{"": name, **peaks} for name, peaks in found["memory"].items() if name != "task"]
    lines += [
        logs.table(
            [{key: value if key == "" else f"{value:.0f}" for key, value in row.items()} for row in rows]
        )
    ]
    return "".join(f"\n{title}\n{table}\n" for title, table in zip(lines[::2], lines[1::2]))


def _rates(name, rounds, aim):
    reached = median(rounds, "ratio_over_padding")
    return {
        "task": name,
        "ours": f"{median(rounds, 'ours_examples_per_s'):.1f}",
        "plain": f"{median(rounds, 'plain_examples_per_s'):.1f}",
        "ratio": spread(rounds, "ratio"),
        "padding allows": f"{median(rounds, 'padding_allows'):.2f}",
        "ratio over that": spread(rounds, "ratio_over_padding"),
        "aim": "met" if reached >= aim else "missed",
        "ratio of updates alone": spread(rounds, "updates_ratio"),
    }


def _once(name, values):
    caching = median(values["distillation"], "caching_examples_per_s")
    plain = median(values["finetuning"], "plain_tokenising_examples_per_s")
    return {
        "task": name,
        "tokenised": f"{values['tokenising_examples_per_s']:.0f}",
        "by plain": f"{plain:.0f}",
        "teacher cached": f"{caching:.0f}",
        "| examples": values["examples"],
        "caching s": f"{values['examples'] / caching:.0f}",
        "cache GiB": f"{values['teacher_cache_gib']:.2f}",
        "mean padded length": f"{values['mean_padded_length']:.1f}",
        "padding allows": f"{values['padding_allows']:.2f}",
    }


def _step(name, rounds):
    parts = {
        part: f"{np.median([row['parts_s'][part] for row in rounds]):.3f}" for part in rounds[0]["parts_s"]
    }
    aim = "met" if median(rounds, "ratio") <= MINIDISC else "missed"
    return {
        "task": name,
        **parts,
        "step": f"{median(rounds, 'step_s'):.3f}",
        "step / sum": spread(rounds, "ratio"),
        "aim": aim,
    }


if __name__ == "__main__":
    main()
