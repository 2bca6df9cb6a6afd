"""The plan that --dry_run prints, beside what the same commands take: memory of seven configurations.

    OMP_NUM_THREADS=1 python -m benchmarks.memory_plan --output results/scale/plan.json
Needs MRPC's real files and a BERT checkpoint with its tokenizer; about 15 minutes on one core, 3 GB of disk.

Each command runs twice in processes of their own: with --dry_run, whose table is read, and without, to the
end of one epoch of few rows, the longest of which are those of the dry run's batch.  Measured is the highest
resident set of each process (VmHWM of /proc, files that are mapped included), from its start to its end.
Of several processes, and of several stages of one run, the largest is taken.  Aims at an estimate within 15%
of what is measured.
"""

import re
import tempfile
from pathlib import Path

import transformers

from benchmarks import memory_of_runs
from benchmarks.reporting import begin, finish
from benchmarks.training_cases import parser_of_paths
from data.model_tokenizer import load_tokenizer
from utils import logs

AIM = 0.15
SENTENCE = "The encoder reads a text piece by piece and gives a state for each of them. "
ROWS = (*"--task_name mrpc --use_cpu --max_train_samples 160 --max_eval_samples 64".split(),)
EPOCH = (*ROWS, *"--num_train_epochs 1 --hold_out 0".split())
# name: (script, flags, processes); {encoder}, {nested}, {t5}, {corpus} and {data} are filled in
CASES = {
    "fine-tuning": ("run_finetuning.py", (*EPOCH, "--model_path", "{encoder}"), 1),
    "fine-tuning, --gradient_checkpointing": (
        "run_finetuning.py",
        (*EPOCH, *"--model_path {encoder} --gradient_checkpointing".split()),
        1,
    ),
    "distillation to 90S, teacher's outputs in memory": (
        "run_distillation.py",
        (*EPOCH, *"--teacher_model_path {nested} --layer_or_sparsity 90S --cache_teacher".split()),
        1,
    ),
    "MiniDisc": (
        "run_minidisc.py",
        (*EPOCH, *"--teacher_model_path {nested} --target_sparsity 90".split()),
        1,
    ),
    "MiniLMv2 to 3 layers": (
        "run_minilmv2.py",
        (*"--use_cpu --teacher_model_path {encoder} --corpus {corpus} --student_layer 3".split(),)
        + (*"--max_steps 5 --num_relation_heads 12 --num_heldout_blocks 32".split(),),
        1,
    ),
    "EncT5, fine-tuning": ("run_finetuning.py", (*EPOCH, *"--model_path {t5} --precision fp32".split()), 1),
    "fine-tuning, --shard": (
        "run_finetuning.py",
        (*EPOCH, *"--model_path {encoder} --shard --per_device_train_batch_size 16".split()),
        2,
    ),
}


def main(argv=None):
    """Make checkpoints and a corpus, run everything, print and write what it took; returns that."""
    parser = parser_of_paths(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], help="some of them")
    args = parser.parse_args(argv)
    found = begin("memory_plan", argv) | {"aim": AIM, "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        places = prepare(Path(folder), args)
        for number, name in enumerate(args.cases):
            script, flags, processes = CASES[name]
            words = [script, *(word.format(**places) for word in flags)]
            if "--task_name" in words:
                words += ["--data_dir", str(args.data_dir)]
            words += ["--output_dir", str(Path(folder, f"run{number}"))]
            said, peaks = measured(*words, "--dry_run", processes=processes)
            estimates = [int(peak) for peak in re.findall(r"peak of memory: (\d+) MiB estimated", said)]
            in_dry_run = [int(peak) for peak in re.findall(r"estimated, (\d+) MiB measured", said)]
            _, peaks = measured(*words, processes=processes)
            case = {"estimated_mib": max(estimates), "dry_run_mib": max(in_dry_run), "run_mib": max(peaks)}
            case["error"] = case["estimated_mib"] / case["run_mib"] - 1
            found["cases"][name] = case
            print(name, case, flush=True)
    found["reached"] = all(abs(case["error"]) <= AIM for case in found["cases"].values())
    return finish(found, report, args.output)


def prepare(folder, args) -> dict:
    """Write a nested teacher, a random EncT5 and a corpus; returns where they are, and the encoder."""
    encoder = str(args.encoder)
    data = ["--data_dir", str(args.data_dir)]
    measured(
        *("run_finetuning.py", *ROWS, *data, "--model_path", encoder, "--max_steps", "1"),
        *("--output_dir", str(folder / "tuned")),
    )
    measured(
        *("run_sparsification.py", *ROWS, *data, "--model_path", str(folder / "tuned")),
        *("--num_scoring_samples", "32", "--output_dir", str(folder / "nested")),
    )
    tokenizer = load_tokenizer(encoder)
    config = transformers.T5Config(vocab_size=len(tokenizer), num_decoder_layers=1, pad_token_id=0)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder / "t5")
    tokenizer.save_pretrained(folder / "t5")
    (folder / "text.txt").write_text("\n\n".join([SENTENCE * 100] * 50), encoding="utf-8")
    measured(
        *("run_corpus.py", "--input", str(folder / "text.txt"), "--tokenizer_name_or_path", encoder),
        *("--max_seq_length", "128", "--num_workers", "1", "--output_dir", str(folder / "corpus")),
    )
    made = {name: str(folder / name) for name in ("nested", "t5", "corpus")}
    return {"encoder": encoder, **made}


def measured(*words, processes=1):
    """Run a script; returns (what it has printed, [highest resident set of each process in MiB])."""
    said, peaks = memory_of_runs.run(*words, counted=memory_of_runs.HIGHEST, processes=processes)
    return said, [peak // 2**20 for peak in peaks]


def report(found) -> str:
    """The table."""
    rows = [
        {
            "": name,
            "estimated MiB": case["estimated_mib"],
            "in the dry run": case["dry_run_mib"],
            "in the run": case["run_mib"],
            "estimate over run": f"{100 * case['error']:+.1f}%",
        }
        for name, case in found["cases"].items()
    ]
    return f"\n{logs.table(rows)}\n"


if __name__ == "__main__":
    main()
