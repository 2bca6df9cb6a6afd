"""What a GPU makes of this code, in one call of less than ten minutes: is it right there, is it fast, does all of it run.

    python -m benchmarks.gpu                                # one H100 or the like; prints tables, writes outputs/gpu.json
    python -m benchmarks.gpu --quick                        # about a third of it
    python -m benchmarks.gpu --only gradients resume
    python -m benchmarks.gpu --device cpu                   # the same code on tiny sizes: its times mean nothing
Needs neither network nor data: models have random weights, texts are made up; real rows are taken where a task and a tokenizer
are there (--data_dir, --encoder).

Sections, each in a process of its own and with a limit of its own; one that fails leaves the others alone:
    machine         the card; what large products and copies reach
    gradients       losses and gradients of every method in float32, beside the CPU in float64: 1e-5
    resume          killed and continued runs end with the same bytes, with torch's kernels as they are and with deterministic ones
    finetuning      tokens/s and model FLOPs utilisation of BERT-base in our loop; the aim is 35% of the peak on real tokens
    deterministic   the same with deterministic kernels
    relations       a MiniLMv2 step beside the naive one; the aim is 3 times as fast
    experts         a block of experts at 16k tokens beside the dense one; the aim is 1.2 times as long
    distillation, minidisc, attention, stages (each script in bf16 and fp16), compile
The JSON is written anew after each section. Exit code: 0; 1 where a section failed, ran out of time, or a check did not pass;
2 for what the flags ask and is not there. A speed that misses its aim is said, and is no failure.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu import report, sections
from benchmarks.gpu.settings import Settings, peak_of
from benchmarks.reporting import begin, finish
from utils import files

ROOT = Path(__file__).resolve().parents[2]
LEAST = 5  # seconds for a section to be worth starting


def parse(argv=None):
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared, add = ROOT.parent / "shared", parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--quick", action="store_true", help="fewer sizes and rounds")
    add("--only", nargs="+", choices=sections.SECTIONS, help="these sections", metavar="SECTION")
    add("--minutes", type=float, default=9.0, help="for all of it: what does not fit in is left out, and said so; 9")
    add("--peak_tflops", type=float, help="of the card in bf16, dense; known for A100, H100, H200 and some others")
    add("--data_dir", type=Path, default=Path(os.environ.get("DATA_DIR") or shared / "datasets"), help="of real tasks; $DATA_DIR")
    add("--encoder", type=Path, default=Path(os.environ.get("MODEL_DIR") or shared / "models" / "all-MiniLM-L6-v2"),
        help="a checkpoint with a real tokenizer; $MODEL_DIR")  # fmt: skip
    add("--work_dir", type=Path, help="where checkpoints are put meanwhile, 3 GB; the system's folder for such files")
    add("--output", type=Path, default=Path("outputs/gpu.json"), help="the JSON file; outputs/gpu.json")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Run the sections, print, write; returns the exit code."""
    args, started = parse(argv), time.monotonic()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("error: --device cuda: torch sees no GPU here; --device cpu runs the same code on tiny sizes", file=sys.stderr)
        return 2
    sections.prepare()
    known = peak_of(torch.cuda.get_device_name()) if args.device == "cuda" else None
    peak = args.peak_tflops * 1e12 if args.peak_tflops else known
    found = begin("gpu", argv, device=args.device, quick=args.quick, peak_flops=peak, sections={})
    if peak is None and args.device == "cuda":
        print("this card's peak is not known: no MFU is reported; give it with --peak_tflops", flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu_", dir=args.work_dir) as work:
        settings = Settings(args.device, args.quick, Path(work), args.data_dir, args.encoder, peak)
        for name in args.only or sections.SECTIONS:
            left = 60 * args.minutes - (time.monotonic() - started)
            seconds = min(sections.SECTIONS[name][1], left)
            if seconds < LEAST:
                found["sections"][name] = {"status": "left out", "seconds": 0.0, "rows": []}
            else:
                print(f"\n{time.monotonic() - started:4.0f} s  {name}, at most {seconds:.0f} s", flush=True)
                found["sections"][name] = sections.run(name, settings, seconds)
            print(report.section(name, found["sections"][name]), flush=True)
            files.write_json(args.output, found)
    found["seconds"] = round(time.monotonic() - started, 1)
    finish(found, report.summary, args.output)
    return 0 if all(each["status"] == "ok" for each in found["sections"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
