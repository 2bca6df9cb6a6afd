"""Memory of models that are shared out (--shard): two processes beside one alone, and a model of 1.3 billion.

    OMP_NUM_THREADS=1 python -m benchmarks.sharding --output sharding.json
    OMP_NUM_THREADS=1 python -m benchmarks.sharding --billion --output billion.json
The first fine-tunes a random BERT of 335 million parameters for two updates, in one process and in two that
share it out: some 12 GiB of memory and 10 GB of disk; aims at a process with 0.6 of the memory of one alone.
The second takes a random EncT5 with the sizes of T5-3B's encoder and a decoder of one layer.  Two processes
sort its units on few rows, and distil it to 40% of them in two hops of MiniDisc, an update each: the teacher
in bf16; the student cropped to half before its optimiser exists, fp32 with its moments, computing in bf16,
with checkpoints of activations; saved, loaded again, scored.  Before that, what --dry_run says of it.  Some
18 GiB and 40 GB.

What is measured: anonymous resident memory of each process (RssAnon of /proc, which leaves out files that are
mapped), its highest value of samples 20 ms apart; seconds from start to end.
"""

import argparse
import functools
import json
import tempfile
import time
from pathlib import Path

import torch
import transformers

from benchmarks import memory_of_runs
from benchmarks.reporting import begin, finish
from data import demo, tasks
from data.model_tokenizer import load_tokenizer
from models import enct5
from utils import files

AIM = 0.6  # of the memory of one process alone
PIECES, T5_PIECES = 30522, 32128  # BERT's and T5's; those of the demo task are fewer
LARGE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
T5_3B = {"d_model": 1024, "d_kv": 128, "num_heads": 32, "d_ff": 16384, "num_decoder_layers": 1}
PLANNED = ("MiB", "GiB", "plan", "of the longest rows", "  ")  # in the lines of a dry run's plan
FEW = (
    *"--task_name demo --data_dir {folder} --use_cpu --log_interval 1".split(),
    *"--max_train_samples 16 --max_eval_samples 16 --per_device_eval_batch_size 8".split(),
)


def main():
    """Make a checkpoint, run the scripts, print and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--billion", action="store_true", help="1.3 billion parameters, sparsified and distilled")
    add("--output", type=Path, required=True, help="the JSON file that is written")
    add("--folder", help="where checkpoints lie for the while; the temporary directory")
    args = parser.parse_args()
    found = begin("sharding", None)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        folder = Path(folder)
        number = save_random(folder / "model", of_t5=args.billion)
        found |= {"parameters": number, **(billion if args.billion else beside_one_alone)(folder)}
    finish(found, functools.partial(json.dumps, indent=1), args.output)


def save_random(folder, *, of_t5) -> int:
    """Write a random classifier of the demo task with 24 layers, BERT-large or EncT5; returns how many
    parameters it has."""
    load_tokenizer(demo.build_tokenizer(folder)).save_pretrained(folder)
    names = tasks.get("demo").label_names
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    torch.manual_seed(0)
    if of_t5:
        config = enct5.config_class("t5")(
            num_layers=24, vocab_size=T5_PIECES, pad_token_id=0, **T5_3B, **labels
        )
        model = enct5.model_class("t5", "classification")(config)
    else:
        config = transformers.BertConfig(num_hidden_layers=24, vocab_size=PIECES, **LARGE, **labels)
        model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return model.num_parameters()


def beside_one_alone(folder) -> dict:
    """Fine-tuning in one process and in two."""
    flags = [*few(folder), "--model_path", folder / "model", "--max_steps", 2]
    alone, _ = measured(
        "run_finetuning.py", *flags, "--per_device_train_batch_size", 4, "--output_dir", folder / "one"
    )
    shared, _ = measured(
        *("run_finetuning.py", *flags, "--shard", "--per_device_train_batch_size", 2),
        *("--output_dir", folder / "two"),
        processes=2,
    )
    ratio = max(shared["peak_bytes"]) / alone["peak_bytes"][0]
    return {"alone": alone, "shared out": shared, "ratio": ratio, "aim": AIM, "reached": ratio <= AIM}


def billion(folder) -> dict:
    """Sparsification, a dry run of MiniDisc, and MiniDisc."""
    flags = [*few(folder), "--shard"]
    sorting, _ = measured(
        *("run_sparsification.py", *flags, "--model_path", folder / "model", "--grid", "0,50,60"),
        *("--num_scoring_samples", 8, "--scoring_batch_size", 4, "--output_dir", folder / "nested"),
        processes=2,
    )
    words = [
        *("run_minidisc.py", *flags, "--teacher_model_path", folder / "nested", "--target_sparsity", 60),
        *("--candidates", 50, "--trunc_sparsity", 50, "--target_iteration", 2, "--max_steps", 1),
        *("--per_device_train_batch_size", 1, "--num_grad_accum_steps", 2, "--gradient_checkpointing"),
        *("--teacher_dtype", "bf16", "--precision", "bf16"),
        *("--do_train", "--do_test", "--output_dir", folder / "student"),
    ]
    planning, said = measured(*words, "--dry_run", processes=2)
    plans = [line for line in said.splitlines() if any(word in line for word in PLANNED)]
    distilling, _ = measured(*words, processes=2)
    student = files.read_json(folder / "student" / "results.json")
    found = {"sparsification": sorting, "dry run": {**planning, "said": plans}, "minidisc": distilling}
    return {**found, "metrics": student["metrics"]}


def few(folder) -> list[str]:
    """The flags of runs of few rows, whose data lie in the folder."""
    return [word.format(folder=folder / "data") for word in FEW]


def measured(*words, processes=1) -> tuple:
    """Run a script; returns {"peak_bytes": [of each process], "seconds"}, and what it has printed."""
    started = time.time()
    said, peaks = memory_of_runs.run(*words, counted=memory_of_runs.ANONYMOUS, processes=processes)
    print(said, flush=True)
    return {"peak_bytes": peaks, "seconds": round(time.time() - started, 1)}, said


if __name__ == "__main__":
    main()
