"""Run folders: started afresh, continued, or reported when finished; and how every script begins and ends.

args.json  log.txt  metrics.jsonl  results.json  ckpt/  state/  predictions/       (DESIGN.md, "A run folder")
"""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from utils import cards, checkpoints, distributed, files, flags, interruptions, logs
from utils.errors import FlagError, RunError, UserError

logger = logs.logger
_left_behind = contextlib.ExitStack()  # what guard() removes
_current = None  # the Run that start() has made


class Finished(Exception):
    """The run had finished before; there is nothing to do but report it."""


class Run:
    """One run folder and this process's place in it.  Made by start().

    folder: Path.  device: torch.device.  args: resolved flags.  finished: results.json exists, only tests and predictions
    are left.  metrics: the metrics.jsonl writer.  inputs: {name: hash} of what is read.  record: what args.json will hold, or
    None where the folder is there already.
    """

    def __init__(self, folder, args, device, *, finished, record=None):
        self.folder, self.args, self.device, self.finished = Path(folder), args, device, finished
        self.started = time.time()
        self.seconds_before = 0.0
        self.metrics, self.inputs = None, {}
        self._record, self._report = record, {}

    @property
    def checkpoint(self) -> Path:
        """The folder of the selected model, once the run has finished."""
        return self.folder / "ckpt"

    def source(self, path):
        """Where this run's tokenizer and model come from: its own checkpoint once it has finished, before that a path."""
        return self.checkpoint if self.finished else path

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, those of earlier starts included as far as they were saved."""
        return self.seconds_before + time.time() - self.started

    def begin(self):
        """Make the run folder, unless this run began in an earlier start.  Nothing is written to it before.

        Called when the data have been read and the models loaded: bad input leaves no folder behind, and with --overwrite the
        old run stays until here.
        """
        interruptions.check()
        if self._record is None:
            return
        if distributed.is_main():
            if (self.folder / "args.json").exists():
                shutil.rmtree(self.folder)  # --overwrite, or start() had not let it pass
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_json(self.folder / "args.json", self._record)
            self.open()
        self._record = None
        distributed.barrier()

    def open(self):
        """Send the log, from its first line on, and the metrics to the run folder.  For the main process."""
        logs.keep(self.folder)
        if not self.finished:
            settings = flags.settings(self.args)
            self.metrics = logs.Metrics(
                self.folder, tracker=getattr(self.args, "report_to", "none"), name=str(self.folder), settings=settings
            )

    def state(self, stage: str) -> Path:
        """The folder of what resuming a stage of this run needs."""
        assert self._record is None, "begin() first"
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
        if share := getattr(self.args, "hold_out", None):
            config[checkpoints.HOLD_OUT] = config.get(checkpoints.HOLD_OUT, {}) | {self.args.task_name: share}
            files.write_json(aside / "config.json", config)
        files.write_text(aside / "README.md", cards.card(self.args, provenance, results, config, folder=name))
        files.replace_folder(aside, self.folder / name)

    def save_clock(self):
        """Remember the seconds spent so far, for the next start.  For the main process."""
        files.write_text(self.folder / "state" / "seconds", f"{self.seconds:.1f}")

    def kept(self) -> str:
        """What is on the disk of this run, for whoever has interrupted it."""
        if self.args.dry_run:
            return "a dry run keeps nothing"
        if (self.folder / "results.json").exists():
            return f"{self.folder} holds the finished run; the same command does what else it asks for"
        from utils import snapshots

        found = []
        for entry in sorted(entry for entry in (self.folder / "state").glob("*") if entry.is_dir()):
            if (snapshot := snapshots.latest(entry)) is not None:
                found.append(f"{entry.name} ({snapshot.name})")
            elif chunks := [*entry.glob("*.npz")]:
                found.append(f"{entry.name} ({len(chunks)})")
            elif (entry / "config.json").exists() and entry.suffix != ".tmp":
                found.append(entry.name)
        if not found:
            return f"nothing that {self.folder} would continue from; the same command starts again"
        return f"{self.folder / 'state'} keeps {', '.join(found)}; the same command continues"

    def finish(self, checkpoint, *, metrics: dict, **results) -> Path:
        """Keep the selected checkpoint in ckpt/, write results.json, remove the state.  Idempotent until the last step.

        checkpoint: the folder to keep, or None.  metrics: {split: {name: value}}.  results: whatever else the stage found out.
        """
        interruptions.check()  # from here on every process has read what it needs of the state
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
    """Processes, device, precision, run folder and log, in that order.  A new run's folder is made by its begin().

    inputs: {name: path of a checkpoint, list of data files, or {file: hash}}; the hashes are recorded and compared.
    A finished run is reported (raises Finished) unless tests or predictions are asked for; an unfinished one is continued;
    changed settings are a RunError that lists each difference; --overwrite starts afresh.
    """
    import torch

    global _current
    device = prepare(args)
    interruptions.check()
    if args.dry_run:
        if distributed.is_main():
            args.output_dir = tempfile.mkdtemp(prefix="dry_run_")
            _left_behind.callback(files.remove, args.output_dir)
        args.output_dir = distributed.gather(args.output_dir)[0]
        for name in ("max_train_samples", "max_steps"):
            if hasattr(args, name):
                setattr(args, name, flags.DRY_RUN_ROWS if name == "max_train_samples" else flags.DRY_RUN_UPDATES)
    torch.manual_seed(args.seed)
    folder = Path(args.output_dir)
    wanted = {"stage": args.stage, "settings": flags.settings(args), "inputs": _hashes(inputs), "processes": distributed.world()}
    status, problem = distributed.gather(_status(folder, wanted, args) if distributed.is_main() else None)[0]
    if problem is None and status != "finished" and not getattr(args, "do_train", True):
        problem = f"--do_test, --do_infer: {folder} holds no finished run; add --do_train"
    if problem is not None:
        raise RunError(problem)
    logs.start(is_main=distributed.is_main())
    record = {**wanted, **_provenance()} if status == "new" else None
    run = _current = Run(folder, args, device, finished=status == "finished", record=record)
    run.inputs = wanted["inputs"]
    if status != "new":
        if distributed.is_main():
            run.open()
        if (folder / "state" / "seconds").exists():
            run.seconds_before = float((folder / "state" / "seconds").read_text())
    if run.finished and not (getattr(args, "do_test", False) or getattr(args, "do_infer", False)):
        _announce_finished(run)
        raise Finished
    if getattr(args, "teacher_saw_hold_out", False):
        run.report(caution="checkpoints may know the rows that are held out: what these rows choose is biased towards them")
    logger.info("%s -> %s | %s", " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), folder, _hardware(device, args))
    return run


def prepare(args):
    """Join the other processes and settle the precision; returns this process's torch.device.  Part of start()."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    device = distributed.start(getattr(args, "use_cpu", True))  # a script that runs no model has no such flags
    precision = getattr(args, "precision", "fp32")
    if precision is None:
        args.precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise FlagError("--precision fp16: needs a GPU; on a CPU choose fp32 or bf16")
    return device


def guard(main, parse):
    """Run a script: users' errors without a traceback, exit code 2; 130 after an interruption; what main returns printed last.

    A finished run is reported by its checkpoint's folder, or its own where it has none.
    """
    interruptions.listen(clean_up=_left_behind.close)
    code = 1  # of an error that is ours
    try:
        code = _outcome(main, parse)
    except KeyboardInterrupt:
        code = 130
        if distributed.is_main():
            print(f"interrupted: {_current.kept() if _current else 'no run had begun'}", file=sys.stderr)
    finally:
        interruptions.leave(code)
        _left_behind.close()
        distributed.stop()
    sys.exit(code)


def _outcome(main, parse) -> int:
    """Run a script; returns its exit code."""
    debug, args = "--debug" in sys.argv, None
    try:
        args = parse()
        result = main(args)
        interruptions.check()  # the last time: what comes later finds everything done
        if distributed.is_main() and result is not None:
            print(result, flush=True)
    except Finished:
        if distributed.is_main():
            folder = Path(args.output_dir)
            print(folder / "ckpt" if (folder / "ckpt").exists() else folder, flush=True)
    except UserError as error:
        if debug:
            raise
        print(f"error: {flags.named(args, str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read what is printed has left; the rest goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _status(folder, wanted, args) -> tuple[str, str | None]:
    """("new", "unfinished" or "finished", and what forbids to use the run folder, if anything)."""
    recorded = folder / "args.json"
    part = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists() or parent.is_symlink())
    if not part.is_dir():
        return "new", f"--output_dir {folder}: {part} is a file; expected a folder for the run"
    if not os.access(part, os.W_OK):
        return "new", f"--output_dir {folder}: {part} cannot be written to"
    if recorded.exists() and not args.overwrite:
        status = "finished" if (folder / "results.json").exists() else "unfinished"
        return status, _differences(folder, files.read_json(recorded), wanted, finished=status == "finished")
    if folder.exists() and any(folder.iterdir()) and not recorded.exists():
        return "new", f"--output_dir {folder}: not empty and not a run folder (no args.json); choose another"
    return "new", None


def _differences(folder, recorded, wanted, *, finished) -> str | None:
    """What has changed since the run began, as a message."""
    if recorded["stage"] != wanted["stage"]:
        return (
            f"--output_dir {folder}: a run of {recorded['stage']}, this is {wanted['stage']}; choose another, or --overwrite it"
        )
    found = []
    for group in ("settings", "inputs", *(() if finished else ("processes",))):
        old, new = (x.get(group) if isinstance(x.get(group), dict) else {group: x.get(group)} for x in (recorded, wanted))
        if group == "settings":  # what a path means is compared by its hash, however it is spelled
            paths = {key for key in [*old, *new] if key.endswith("_path") or key == "data_dir"}
            free = paths | (flags.OF_ANSWERS if finished else set())
            old, new = ({k: v for k, v in x.items() if k not in free} for x in (old, new))
        for key in sorted({*old, *new}):
            is_newer = group == "settings" and key not in old and not new[key]  # a flag that the run's version had not, unused
            if old.get(key) != new.get(key) and not is_newer:
                name = f"--{key}" if group == "settings" else key
                found.append(f"  {name}: {old.get(key)} in the run, {new.get(key)} now")
    if not found:
        return None
    return "\n".join([f"--output_dir {folder}: a run with other settings; choose another, or --overwrite it", *found])


def _hashes(inputs):
    hashes = {}
    for name, value in inputs.items():
        if isinstance(value, list | tuple):
            for path in value:
                hashes[f"{name}/{Path(path).name}"] = files.sha256(path)
        elif isinstance(value, dict):
            hashes.update({f"{name}/{path}": digest for path, digest in value.items()})
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
    return f"{name}, {distributed.world()} process(es), {getattr(args, 'precision', 'no model')}, seed {args.seed}"


def _line(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(item)}" for key, item in value.items())
    return logs.number(value)


def _announce_finished(run):
    results = files.read_json(run.folder / "results.json")
    logger.info("%s: finished before (--overwrite starts it afresh)", run.folder)
    for split, values in results["metrics"].items():
        logger.info("%s: %s", split, _line(values))
