"""What the two drivers have in common that stop the scripts: a case for each script, tries, a table of them.

A try is a run that is stopped and started again; it must leave what a run leaves that is not stopped.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from commands import outcome, run  # noqa: E402
from records import difference, records  # noqa: E402

TASK = ("--task_name", "demo", "--data_dir", "{data}", "--use_cpu")
SHORT = (
    *"--per_device_train_batch_size 16 --max_steps 6 --eval_interval 3".split(),
    *"--log_interval 2 --save_minutes 0 --learning_rate 0.001".split(),
)
TRAIN = (*TASK, *SHORT, "--hidn_dropout", 0.1, "--att_dropout", 0.1)
CORPUS = (
    *"--use_cpu --corpus {corpus} --num_heldout_blocks 40".split(),
    *"--teacher_model_path {tuned}".split(),
    *SHORT,
)
SIZES = ("--hidden", 48, "--heads", 4, "--num_relation_heads", 8)
# What the cases read, in the order in which it is made: script, flags; {name} is the folder of an earlier one
INPUTS = {
    "tuned": ("run_finetuning.py", *TRAIN),
    "nested": ("run_sparsification.py", *TASK, *"--model_path {tuned} --grid 0,50,70,90".split()),
    "trial": (
        "run_distillation.py",
        *TRAIN,
        *"--teacher_model_path {tuned} --student_layer 2 --model_type kd --temperature 2".split(),
    ),
    "filters": (
        "run_ted.py",
        *TASK,
        *SHORT,
        *"--mode filters --model_path {tuned} --filter_interval 2".split(),
    ),
    "student": ("run_ted.py", *TASK, *SHORT, *"--mode filters --model_path {trial}".split()),
    "corpus": (
        "run_corpus.py",
        *"--input {text} --tokenizer_name_or_path {tuned} --max_seq_length 32".split(),
        *"--num_workers 1".split(),
    ),
}
CASES = {
    "finetuning": ("run_finetuning.py", *TRAIN, *"--do_train --do_test --do_infer".split()),
    "sparsification": (*INPUTS["nested"], "--do_train", "--do_test"),
    "distillation": (
        "run_distillation.py",
        *TRAIN,
        *"--teacher_model_path {nested} --layer_or_sparsity 90S --num_grad_accum_steps 2".split(),
    ),
    "maxidisc": (
        "run_maxidisc.py",
        *TRAIN,
        *"--teacher_model_path {nested} --layer_or_sparsity_path 70,90S --hops_dir {hops}".split(),
    ),
    "minidisc": ("run_minidisc.py", *TRAIN, "--teacher_model_path", "{nested}"),
    "stark": (
        "run_stark.py",
        *TRAIN,
        *"--teacher_model_path {tuned} --student_model_path {trial} --do_rewind".split(),
        *"--student_layer 2 --teacher_sparsities 30".split(),
    ),
    "ted filters": INPUTS["filters"],
    "ted": (
        "run_ted.py",
        *TRAIN,
        *"--mode ted --teacher_model_path {filters} --student_model_path {student}".split(),
        *"--student_init stage1 --mse_alpha 10".split(),
    ),
    "corpus": INPUTS["corpus"],
    "corpus sparsification": (
        "run_sparsification.py",
        *"--task_name corpus --corpus {corpus} --model_path {masked}".split(),
        *"--num_heldout_blocks 40 --num_scoring_samples 64 --grid 0,90 --use_cpu".split(),
    ),
    "minilmv2": ("run_minilmv2.py", *CORPUS, *SIZES, "--student_path", "3,2L"),
    "minimoe": ("run_minimoe.py", *CORPUS, *SIZES, *"--layer 2 --moe 1,4".split()),
    "once for all": ("run_minilmv2.py", *CORPUS, *"--ofa_layer 3,2 --ofa_hidden 128,64".split()),
    "vocabulary": (
        "run_vocabulary.py",
        *TASK,
        *"--model_path {nested} --trim_embeddings --vocabulary_size 58 --no_onnx".split(),
    ),
    "comparison": (
        "run_evaluation.py",
        *TASK,
        *"--num_repeats 0 --teacher_model_path {tuned} --model_path {nested}".split(),
        *"--sparsities 50 --compare --num_resamples 100".split(),
    ),
    "evaluation": (
        "run_evaluation.py",
        *TASK,
        *"--num_repeats 0 --model_path {nested} --sparsities 50 --export compact".split(),
        *"--export_dir {exports}".split(),
    ),
}
LATE = "it had come to its end before"


class Case:
    """A command with a place of its own: place/run, and place/hops and place/exports where it writes
    there."""

    def __init__(self, name, place, inputs, *, processes=1):
        self.name, (self.script, *words), self.processes = name, CASES[name], processes
        self.place, self.folders = place, [place / name for name in ("run", "hops", "exports")]
        names = {**inputs, "hops": place / "hops", "exports": place / "exports"}
        self.flags = [*(str(word).format_map(names) for word in words), "--output_dir", str(place / "run")]

    def start(self, before=(), seconds=120):
        """Run it; returns ([exit code of each process], output).  before, seconds: see commands.outcome."""
        return outcome(self.script, *self.flags, processes=self.processes, before=before, seconds=seconds)

    def clear(self):
        """Make room for a run from the start."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)

    def whole(self, before=()):
        """A run that is not stopped: its records are what all others must leave."""
        self.clear()
        codes, text = self.start(before)
        assert not any(codes), f"{self.name}: exit codes {codes}\n{text}"
        self.wanted = records(*self.folders)

    def stopped(self, before, wanted) -> str | None:
        """A run that is stopped by what is called before, and started again; what went wrong, if anything.

        wanted: the exit code of all its processes.  LATE where they had all done everything before.
        """
        self.clear()
        codes, text = self.start(before)
        if None in codes:
            return f"hangs, exit codes {codes}\n{text[-2000:]}"
        if not any(codes):
            return LATE
        if {*codes} != {wanted}:
            return f"ended with exit codes {codes}, not {wanted}\n{text[-2000:]}"
        codes, text = self.start()
        if any(code != 0 for code in codes):
            return f"started again it ended with exit codes {codes}\n{text[-2000:]}"
        return "; ".join(difference(records(*self.folders), self.wanted)) or None


def inputs(folder, cases) -> dict:
    """{name: folder} of what some cases read, made in a folder; a demo task of few rows among it."""
    from data import demo

    demo.write_files(folder / "all" / "demo")
    (folder / "data" / "demo").mkdir(parents=True)
    for split, number in (("train", 96), ("dev", 48), ("test", 16)):
        lines = (
            (folder / "all" / "demo" / f"{split}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        )
        (folder / "data" / "demo" / f"{split}.tsv").write_text("".join(lines[: 1 + number]), encoding="utf-8")
    text = "\n\n".join(f"{review}\n{statement}" for review, statement, _ in demo.rows(300))
    (folder / "text.txt").write_text(text + "\n", encoding="utf-8")
    places = {
        "data": folder / "data",
        "text": folder / "text.txt",
        **{name: folder / name for name in [*INPUTS, "masked"]},
    }
    wanted = "".join(str(CASES[name]) for name in cases)
    wanted += "{tuned}" if "{masked}" in wanted else ""
    for name in reversed(INPUTS):  # what reads comes after what is read
        wanted += str(INPUTS[name]) if f"{{{name}}}" in wanted else ""
    for name in (name for name in INPUTS if f"{{{name}}}" in wanted):
        script, *words = INPUTS[name]
        run(script, *(str(word).format_map(places) for word in words), "--output_dir", folder / name)
    if "{masked}" in wanted:  # an encoder with its pretraining head, which no script writes
        from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

        AutoModelForMaskedLM.from_config(
            AutoConfig.from_pretrained(folder / "tuned" / "ckpt")
        ).save_pretrained(folder / "masked")
        AutoTokenizer.from_pretrained(folder / "tuned" / "ckpt").save_pretrained(folder / "masked")
    return places


def commit() -> str:
    """The commit that is tried; "-dirty" where other files than its own tables differ from it."""

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=HERE.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results/reliability")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def table(found, what) -> str:
    """The outcome as Markdown.

    found: rows {"case", "script", what there is to try: a number, "tries": [{..., "problem": text or None}],
    "minutes", "commit", "date", "command"}.
    """
    (possible,) = {*found[0]} - {"case", "script", "tries", "minutes", "commit", "date", "command"}
    lines = [
        f"{what} Where tries are fewer than {possible}, they are a sample.",
        "",
        f"| case | script | {possible} | tries | not as if never stopped | minutes | commit | date |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in found:
        bad = sum(tried["problem"] is not None for tried in row["tries"])
        lines.append(
            f"| {row['case']} | {row['script']} | {row[possible]} | {len(row['tries'])} | {bad} | "
            f"{row['minutes']:.1f} | {row['commit']} | {row['date']} |"
        )
    tries = [(row, tried) for row in found for tried in row["tries"]]
    faults = [(row, tried) for row, tried in tries if tried["problem"]]
    lines += ["", f"{len(tries)} tries, {len(faults)} of them with a fault.", ""]
    for row, tried in faults:
        moment = ", ".join(str(value) for name, value in tried.items() if name != "problem")
        lines.append(f"- {row['case']}, {moment}: {tried['problem'].splitlines()[0]}")
    lines += ["", *(f"    {command}" for command in dict.fromkeys(row["command"] for row in found))]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def main(doc, play, cases, what):
    """A driver's command line: tries the cases that are named, prints the table, maybe writes it; returns the
    exit code.

    play(folder, cases, number): yields the start of a row for each case, see table(); tries are made while
    they are taken.  number: of tries of each, None for all.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cases", nargs="*", choices=[[], *cases], metavar="case", help=f"of {', '.join(cases)}; all"
    )
    parser.add_argument("--number", type=int, default=3, help="tries of each case")
    parser.add_argument("--all", action="store_true", help="every moment")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="FILE.md, FILE.json: put in what is found, case by case"
    )
    args = parser.parse_args()
    found, written = [], {}
    of_all = {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", f"tests/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    if args.write and args.write.with_suffix(".json").exists():
        before = json.loads(args.write.with_suffix(".json").read_text(encoding="utf-8"))
        written = {row["case"]: row for row in before}
    with tempfile.TemporaryDirectory() as folder:
        for row in play(Path(folder), args.cases or [*cases], None if args.all else args.number):
            tries, started = [], time.time()
            for tried in row["tries"]:
                tries.append(tried)
                if tried["problem"]:
                    print(row["case"], json.dumps(tried), file=sys.stderr, flush=True)
            found.append({**row, "tries": tries, "minutes": (time.time() - started) / 60, **of_all})
            if args.write:
                args.write.parent.mkdir(parents=True, exist_ok=True)
                written[row["case"]] = found[-1]
                rows = [written[case] for case in cases if case in written]
                args.write.with_suffix(".md").write_text(table(rows, what), encoding="utf-8")
                text = json.dumps(rows, indent=1) + "\n"
                args.write.with_suffix(".json").write_text(text, encoding="utf-8")
    print(table(found, what))
    return int(any(tried["problem"] for row in found for tried in row["tries"]))
