"""Run folders: started afresh, continued, or reported when finished; and how every script begins and ends.

args.json  log.txt  metrics.jsonl  results.json  ckpt/  state/  predictions/       (DESIGN.md, "A run folder")
"""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from utils import cards, checkpoints, distributed, files, flags, logs
from utils.errors import FlagError, RunError, UserError

logger = logs.logger

DRY_RUN_ROWS, DRY_RUN_UPDATES = 48, 3


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived and the state has been saved."""


class Finished(Exception):
    """The run had finished before; there is nothing to do but report it."""


class Run:
    """One run folder and this process's place in it.  Made by start().

    folder: Path.  device: torch.device.  args: resolved flags.  finished: results.json exists, only tests and predictions
    are left.  metrics: the metrics.jsonl writer.  inputs: {name: hash} of what is read.
    """

    def __init__(self, folder, args, device, *, finished):
        self.folder, self.args, self.device, self.finished = Path(folder), args, device, finished
        self.started = time.time()
        self.seconds_before = 0.0
        self.interrupted = False
        self.metrics, self.inputs = None, {}
        self._report = {}

    @property
    def checkpoint(self) -> Path:
        """The folder of the selected model, once the run has finished."""
        return self.folder / "ckpt"

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, those of earlier starts included as far as they were saved."""
        return self.seconds_before + time.time() - self.started

    def state(self, stage: str) -> Path:
        """The folder of what resuming a stage of this run needs."""
        return self.folder / "state" / stage

    def report(self, **values):
        """Print facts before step 1, and keep them for results.json."""
        for key, value in values.items():
            text = "\n" + logs.table(value) if isinstance(value, list) else _line(value)
            logger.info("%s: %s", key.replace("_", " "), text)
        self._report.update(values)

    def keep(self, checkpoint, name: str, results: dict):
        """Keep a checkpoint of the state under a name of its own in the run folder, with a card.  For the main process."""
        aside = self.folder / f"{name}.tmp"
        files.remove(aside)
        files.link_tree(checkpoint, aside)
        provenance, config = files.read_json(self.folder / "args.json"), files.read_json(aside / "config.json")
        files.write_text(aside / "README.md", cards.card(self.args, provenance, results, config))
        files.replace_folder(aside, self.folder / name)

    def save_clock(self):
        """Remember the seconds spent so far, for the next start.  For the main process."""
        files.write_text(self.folder / "state" / "seconds", f"{self.seconds:.1f}")

    def finish(self, checkpoint, *, metrics: dict, **results) -> Path:
        """Keep the selected checkpoint in ckpt/, write results.json, remove the state.  Idempotent until the last step.

        checkpoint: the folder to keep, or None.  metrics: {split: {name: value}}.  results: whatever else the stage found out.
        """
        if distributed.is_main():
            task = {"task": self.args.task_name} if hasattr(self.args, "task_name") else {}
            seconds = round(self.seconds, 1)
            written = {"stage": self.args.stage, **task, "metrics": metrics, **self._report, **results, "seconds": seconds}
            if checkpoint is not None:
                self.keep(checkpoint, "ckpt", written)
            files.write_json(self.folder / "results.json", written)
            shutil.rmtree(self.folder / "state", ignore_errors=True)
        distributed.barrier()
        for split, values in metrics.items():
            logger.info("%s: %s", split, _line(values))
        return self.checkpoint

    def add_results(self, **values):
        """Merge into results.json after the run has finished: test metrics, predictions.  For the main process."""
        results = files.read_json(self.folder / "results.json")
        for key, value in values.items():
            results[key] = {**results.get(key, {}), **value}
        files.write_json(self.folder / "results.json", results)


def start(args, *, inputs: dict) -> Run:
    """Processes, device, precision, run folder and log, in that order.

    inputs: {name: path of a checkpoint, or list of data files}; their hashes are recorded and compared.
    A finished run is reported (raises Finished) unless tests or predictions are asked for; an unfinished one is continued;
    changed settings are a RunError that lists each difference; --overwrite starts afresh.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    device = distributed.start(args.use_cpu)
    if args.precision is None:
        args.precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if args.precision == "fp16" and device.type == "cpu":
        raise FlagError("--precision fp16: needs a GPU; on a CPU choose fp32 or bf16")
    if args.dry_run:
        args.output_dir = distributed.gather(tempfile.mkdtemp(prefix="dry_run_"))[0]
        for name in ("max_train_samples", "max_steps"):
            if hasattr(args, name):
                setattr(args, name, DRY_RUN_ROWS if name == "max_train_samples" else DRY_RUN_UPDATES)
    torch.manual_seed(args.seed)
    folder = Path(args.output_dir)
    wanted = {"stage": args.stage, "settings": flags.settings(args), "inputs": _hashes(inputs)}
    if distributed.is_main():
        finished = _prepare(folder, wanted, args)
    finished = distributed.gather(finished if distributed.is_main() else None)[0]
    logs.start(folder, is_main=distributed.is_main())
    run = Run(folder, args, device, finished=finished)
    run.inputs = wanted["inputs"]
    if (folder / "state" / "seconds").exists():
        run.seconds_before = float((folder / "state" / "seconds").read_text())
    if finished and not (getattr(args, "do_test", False) or getattr(args, "do_infer", False)):
        _announce_finished(run)
        raise Finished
    if distributed.is_main() and not finished:
        run.metrics = logs.Metrics(folder, tracker=args.report_to, name=str(folder), settings=wanted["settings"])
    logger.info("%s -> %s | %s", " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), folder, _hardware(device, args))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _on_signal(run))
    return run


def guard(main, parse):
    """Run a script: users' errors without a traceback, exit code 2; 130 after an interruption; the checkpoint printed last."""
    debug = "--debug" in sys.argv
    code, args = 0, None
    try:
        args = parse()
        print(main(args))
    except Finished:
        print(Path(args.output_dir) / "ckpt")
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, Interrupted):
        print("interrupted; the same command continues", file=sys.stderr)
        code = 130
    finally:
        if args is not None and args.dry_run and args.output_dir and os.path.basename(args.output_dir).startswith("dry_run_"):
            shutil.rmtree(args.output_dir, ignore_errors=True)
        distributed.stop()
    sys.exit(code)


def _on_signal(run):
    if run.interrupted:
        raise KeyboardInterrupt  # the second time: at once, from the last saved state
    run.interrupted = True
    logger.warning("interrupted: saving the state after this update (once more: stop at once)")


def _prepare(folder, wanted, args) -> bool:
    """Make or check the run folder; True if the run in it has finished."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--output_dir {folder}: a file; expected a folder for the run")
    recorded = folder / "args.json"
    if folder.exists() and any(folder.iterdir()) and not recorded.exists() and not args.dry_run:
        raise RunError(f"--output_dir {folder}: not empty and not a run folder (no args.json); choose another")
    if recorded.exists() and args.overwrite:
        shutil.rmtree(folder)
    if recorded.exists():
        _compare(folder, files.read_json(recorded), wanted)
        return (folder / "results.json").exists()
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(recorded, {**wanted, **_provenance()})
    return False


def _compare(folder, recorded, wanted):
    differences = []
    for group in ("stage", "settings", "inputs"):
        old, new = ({"stage": x[group]} if group == "stage" else x[group] for x in (recorded, wanted))
        if group == "settings":  # what a path means is compared by its hash, however it is spelled
            paths = {key for key in [*old, *new] if key.endswith("_path") or key == "data_dir"}
            old, new = ({k: v for k, v in x.items() if k not in paths} for x in (old, new))
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                name = f"--{key}" if group == "settings" else key
                differences.append(f"  {name}: {old.get(key)} in the run, {new.get(key)} now")
    if differences:
        raise RunError(
            "\n".join([f"{folder}: a run with other settings; choose another --output_dir, or --overwrite it", *differences])
        )


def _hashes(inputs):
    hashes = {}
    for name, value in inputs.items():
        if isinstance(value, list | tuple):
            for path in value:
                hashes[f"{name}/{Path(path).name}"] = files.sha256(path)
        elif value is not None:
            hashes[name] = checkpoints.fingerprint(value)
    return hashes


def _provenance() -> dict:
    versions = {"python": platform.python_version()}
    for name in ("torch", "transformers", "tokenizers", "numpy", "safetensors"):
        versions[name] = metadata.version(name)
    commit = None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        here = Path(__file__).resolve().parent
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=here, check=True, capture_output=True, text=True
        ).stdout.strip()
    return {"command": sys.argv, "versions": versions, "git_commit": commit, "started": time.strftime("%Y-%m-%d %H:%M:%S")}


def _hardware(device, args) -> str:
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}, {distributed.world()} process(es), {args.precision}, seed {args.seed}"


def _line(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(item)}" for key, item in value.items())
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _announce_finished(run):
    results = files.read_json(run.folder / "results.json")
    logger.info("%s: finished before (--overwrite starts it afresh)", run.folder)
    for split, values in results["metrics"].items():
        logger.info("%s: %s", split, _line(values))
