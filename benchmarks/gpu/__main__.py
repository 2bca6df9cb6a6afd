"""What a GPU makes of this code, in one call of less than ten minutes: is it right there, is it fast, does
all of it run.

    python -m benchmarks.gpu  # an H100 or the like; prints tables, writes outputs/gpu.json
    python -m benchmarks.gpu --quick                      # about half of it
    python -m benchmarks.gpu --only gradients resume
    python -m benchmarks.gpu --device cpu  # the same code on tiny sizes: its times mean nothing
Needs neither network nor data: models have random weights, texts are made up. Rows of a real task are taken
where it and a tokenizer are there (--data_dir, --encoder).

Sections, each in a process of its own and with a limit of its own; one that fails leaves the others alone:
    machine         the card; what large products and a copy reach
    gradients       losses and gradients of every method in float32, beside the CPU in float64: 1e-5
    resume          killed and continued runs end with the same bytes; with torch's kernels as they come, and
                    deterministic
    finetuning      tokens/s and model FLOPs utilisation of BERT-base in our loop; aim: 35% of the peak, on
                    real tokens
    relations       a MiniLMv2 step beside the naive one; aim: 3 times as fast
    experts         a sublayer of experts at 16,384 tokens beside the dense one; aim: 1.2 times as long
    distillation, minidisc      the same rates; a MiniDisc step beside the sum of its parts
    deterministic   fine-tuning with deterministic kernels
    attention       eager, sdpa and each of its kernels, flash, variable-length
    stages          each script for some updates in bf16 and in fp16
    compile         with --compile and without
The JSON is written anew after each section. Exit code: 0; 1 where a section failed, ran out of time or was
left out, or a check did not pass; 2 where there is no GPU. A speed that misses its aim is said, and is no
failure.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu import report, sections
from benchmarks.gpu.settings import BenchmarkSettings, peak_of
from benchmarks.reporting import begin, finish
from utils import files

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 9.0  # of all sections together
LEAST = 5  # seconds for a section to be worth starting


def parse(argv=None):
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared, add = ROOT.parent / "shared", parser.add_argument
    data_dir = Path(os.environ.get("DATA_DIR") or shared / "datasets")
    encoder = Path(os.environ.get("MODEL_DIR") or shared / "models" / "all-MiniLM-L6-v2")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--quick", action="store_true", help="fewer sizes and rounds")
    add("--only", nargs="+", choices=sections.SECTIONS, help="these sections", metavar="SECTION")
    add(
        "--minutes",
        type=float,
        help="for all of it, what does not fit is left out; 9 on a GPU, any number on a CPU",
    )
    add(
        "--peak_tflops",
        type=float,
        help="of the card in bf16, dense; known for A100, H100, H200 and some others",
    )
    add("--data_dir", type=Path, default=data_dir, help="of real tasks; $DATA_DIR")
    add("--encoder", type=Path, default=encoder, help="a checkpoint with a real tokenizer; $MODEL_DIR")
    add(
        "--work_dir",
        type=Path,
        help="where checkpoints are put meanwhile, 3 GB; where the system has such files",
    )
    add("--output", type=Path, default=Path("outputs/gpu.json"), help="the JSON file; outputs/gpu.json")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Run the sections, print, write; returns the exit code."""
    args, started = parse(argv), time.monotonic()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: --device cuda: torch sees no GPU; --device cpu runs the same code on tiny sizes",
            file=sys.stderr,
        )
        return 2
    sections.prepare()
    peak = 1e12 * args.peak_tflops if args.peak_tflops else None
    if args.device == "cuda" and peak is None:
        peak = peak_of(torch.cuda.get_device_name())
    found = begin("gpu", argv, device=args.device, quick=args.quick, peak_flops=peak, sections={})
    if args.device == "cuda" and peak is None:
        print(
            "the peak of this card is not known, so no MFU is reported; give it with --peak_tflops",
            flush=True,
        )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu_", dir=args.work_dir) as work:
        settings = BenchmarkSettings(args.device, args.quick, Path(work), args.data_dir, args.encoder, peak)
        deadline = started + 60 * (args.minutes or settings.pick(MINUTES, MINUTES, 600))
        for name in args.only or sections.SECTIONS:
            found["sections"][name] = run(name, settings, started, deadline)
            if poisoned(found["sections"][name]):
                settings = dataclasses.replace(settings, start="spawn")
                found["sections"][name] = run(name, settings, started, deadline)
            print(report.section(name, found["sections"][name]), flush=True)
            files.write_json(args.output, found)
    found["seconds"] = round(time.monotonic() - started, 1)
    finish(found, report.summary, args.output)
    return 0 if all(each["status"] == "ok" for each in found["sections"].values()) else 1


def run(name, settings, started, deadline) -> dict:
    """A section, as far as there is time for it."""
    seconds = min(sections.SECTIONS[name][1] * settings.pick(1, 1, 10), deadline - time.monotonic())
    if seconds < LEAST:
        return {"status": "left out", "error": "no time was left", "seconds": 0.0, "rows": []}
    print(f"\n{time.monotonic() - started:4.0f} s  {name}, at most {seconds:.0f} s", flush=True)
    return sections.run(name, settings, seconds)


def poisoned(found) -> bool:
    """Whether a section failed because forks of a process that has touched the GPU cannot use it; then they
    are started anew."""
    return "in forked subprocess" in json.dumps(found)


if __name__ == "__main__":
    sys.exit(main())
