"""Memory of models that are shared out (--shard): two processes beside one alone, and a model of 1.2 billion.

    OMP_NUM_THREADS=1 python -m benchmarks.sharding --output sharding.json
    OMP_NUM_THREADS=1 python -m benchmarks.sharding --billion --output billion.json
The first fine-tunes a random BERT of 335 million parameters for two updates, in one process and in two that
share it out: some 12 GiB of memory and 10 GB of disk; aims at a process with 0.6 of the memory of one alone.
The second sorts the units of a random one of 1.2 billion, as wide and deep as BERT-large twice over, and
distils it to half its heads and neurons in one MiniDisc update, two processes: saved, loaded again, scored.

What is measured: anonymous resident memory of each process (RssAnon of /proc, which leaves out files that are
mapped), its highest value of samples 20 ms apart; seconds from start to end.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from benchmarks.reporting import begin, finish
from data import demo, tasks
from data.model_tokenizer import load_tokenizer
from utils import files

ROOT = Path(__file__).resolve().parents[1]
AIM = 0.6  # of the memory of one process alone
PIECES = 30522  # BERT's; those of the demo task are fewer
LARGE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
BILLION = {"hidden_size": 2048, "num_attention_heads": 32, "intermediate_size": 8192}
FEW = (
    *"--task_name demo --data_dir {folder} --use_cpu --log_interval 1".split(),
    *"--max_train_samples 16 --max_eval_samples 16 --per_device_eval_batch_size 8".split(),
)


def main():
    """Make a checkpoint, run the scripts, print and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--billion", action="store_true", help="1.2 billion parameters, sparsified and distilled")
    add("--output", type=Path, required=True, help="the JSON file that is written")
    add("--folder", help="where checkpoints lie for the while; the temporary directory")
    args = parser.parse_args()
    found = begin("sharding", None)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        folder = Path(folder)
        number = save_random(folder / "model", BILLION if args.billion else LARGE)
        found |= {"parameters": number, **(billion if args.billion else beside_one_alone)(folder)}
    finish(found, functools.partial(json.dumps, indent=1), args.output)


def save_random(folder, sizes) -> int:
    """Write a random classifier of the demo task with 24 layers; returns the number of its parameters."""
    load_tokenizer(demo.build_tokenizer(folder)).save_pretrained(folder)
    names = tasks.get("demo").label_names
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    config = transformers.BertConfig(num_hidden_layers=24, vocab_size=PIECES, **sizes, **labels)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return model.num_parameters()


def beside_one_alone(folder) -> dict:
    """Fine-tuning in one process and in two."""
    flags = [*few(folder), "--model_path", folder / "model", "--max_steps", 2]
    alone = measured(
        "run_finetuning.py", *flags, "--per_device_train_batch_size", 4, "--output_dir", folder / "one"
    )
    shared = measured(
        *("run_finetuning.py", *flags, "--shard", "--per_device_train_batch_size", 2),
        *("--output_dir", folder / "two"),
        processes=2,
    )
    ratio = max(shared["peak_bytes"]) / alone["peak_bytes"][0]
    return {"alone": alone, "shared out": shared, "ratio": ratio, "aim": AIM, "reached": ratio <= AIM}


def billion(folder) -> dict:
    """Sparsification and one MiniDisc update to half the units."""
    flags = [*few(folder), "--shard"]
    sorting = measured(
        *("run_sparsification.py", *flags, "--model_path", folder / "model", "--grid", "0,50,60"),
        *("--num_scoring_samples", 8, "--scoring_batch_size", 4, "--output_dir", folder / "nested"),
        processes=2,
    )
    distilling = measured(
        *("run_minidisc.py", *flags, "--teacher_model_path", folder / "nested", "--target_sparsity", 60),
        *("--candidates", 50, "--trunc_sparsity", 50, "--target_iteration", 2, "--max_steps", 1),
        *("--per_device_train_batch_size", 2, "--do_train", "--do_test", "--output_dir", folder / "student"),
        processes=2,
    )
    student = files.read_json(folder / "student" / "results.json")
    return {"sparsification": sorting, "minidisc": distilling, "metrics": student["metrics"]}


def few(folder) -> list[str]:
    """The flags of runs of few rows, whose data lie in the folder."""
    return [word.format(folder=folder / "data") for word in FEW]


def measured(script, *flags, processes=1) -> dict:
    """Run a script; returns {"peak_bytes": [of each process], "seconds"}."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    words = [sys.executable, *(launcher if processes > 1 else []), str(ROOT / script), *map(str, flags)]
    started, peaks = time.time(), {}
    process = subprocess.Popen(words, cwd=ROOT)
    while process.poll() is None:
        for number in children(process.pid) if processes > 1 else [process.pid]:
            peaks[number] = max(peaks.get(number, 0), anonymous(number))
        time.sleep(0.02)
    if process.returncode != 0:
        sys.exit(f"{script}: exit code {process.returncode}")
    largest = sorted(peaks.values(), reverse=True)[:processes]
    return {"peak_bytes": largest, "seconds": round(time.time() - started, 1)}


def children(number) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(each) for each in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    except OSError:
        return []


def anonymous(number) -> int:
    """Bytes of anonymous memory that a process has resident; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    main()
