"""Run folders: started afresh, continued, or reported when finished; and how every script begins and ends.

args.json  log.txt  metrics.jsonl  results.json  ckpt/  state/  predictions/
"""

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from utils import (
    cards,
    config_values,
    distributed,
    files,
    flags,
    frozen_outputs,
    interruptions,
    logs,
    next_steps,
    provenance,
    run_folder,
    run_lock,
    updates,
)
from utils.errors import FlagError, RunError, UserError, of_machine
from utils.flags import paths
from utils.printable import message, say

logger = logs.logger
_left_behind = contextlib.ExitStack()  # what guard() removes
_current = None  # the Run that start() has made
_DRY_RUN = "bert-compression-dry-run"  # in the name of its folder in the temporary directory


class Finished(Exception):
    """The run had finished before; there is nothing to do but report it."""


class Run:
    """One run folder and this process's place in it.  Made by start().

    folder: Path.  device: torch.device.  args: resolved flags.  finished: results.json exists, only tests and
    predictions are left.  metrics: the metrics.jsonl writer.  inputs: {name: hash} of what is read.  record:
    what args.json will hold, or None where the folder is there already.  plans: the folder that the run would
    have, of a dry run; else None.
    """

    def __init__(self, folder, args, device, *, finished, record=None):
        self.folder, self.args, self.device, self.finished = Path(folder), args, device, finished
        self.started = time.time()
        self.seconds_before = 0.0
        self.metrics, self.inputs, self.plans = None, {}, None
        self._record, self._report = record, {}

    @property
    def checkpoint(self) -> Path:
        """The folder of the selected model, once the run has finished."""
        return self.folder / "ckpt"

    def source(self, path):
        """Where this run's tokenizer and model come from: its own checkpoint once it has finished, before
        that a path."""
        return self.checkpoint if self.finished else path

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, those of earlier starts included as far as they were saved."""
        return self.seconds_before + time.time() - self.started

    def begin(self):
        """Make the run folder, unless this run began in an earlier start.  Nothing is written to it before.

        Called when the data have been read and the models loaded: bad input leaves no folder behind, and with
        --overwrite the old run stays until here; then it is moved aside, and removed when this one has a
        first state or a result.
        """
        interruptions.check()
        if self._record is None:
            return
        _together(self.folder, self._make)
        self._record = None

    def _make(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"--output_dir {self.folder}: cannot be made ({error.strerror}); choose another"
            ) from error
        run_lock.lock(self.folder)
        status, problem = run_folder.status(self.folder, self._record, overwrite=self.args.overwrite)
        if status != "new" or problem is not None:
            raise RunError(
                problem
                or f"--output_dir {self.folder}: another process has begun this run; give the command again"
            )
        run_folder.move_aside(self.folder)
        try:
            files.write_json(self.folder / "args.json", self._record)
        except BaseException:
            run_folder.put_back(self.folder)
            raise
        self.open()

    def open(self):
        """Send the log, from its first line on, and the metrics to the run folder.  For the main process."""
        logs.write_to(self.folder)
        if not self.finished:
            settings = flags.settings(self.args)
            self.metrics = logs.Metrics(
                self.folder,
                tracker=getattr(self.args, "report_to", "none"),
                name=str(self.folder),
                settings=settings,
            )

    @property
    def cached(self):
        """Where outputs of frozen models are kept: frozen_outputs.MEMORY, a folder, or None: nowhere."""
        if not self.args.cache_teacher:
            return None
        if self.args.cache_dir is None:
            return frozen_outputs.MEMORY
        return self.folder / "teacher_outputs" if self.args.dry_run else Path(self.args.cache_dir)

    @property
    def spare_flags(self) -> set[str]:
        """Names of the flags of this script that would take less memory and are not given."""
        found = {name for name in ("gradient_checkpointing", "shard") if vars(self.args).get(name) is False}
        if self.args.stage not in flags.SHARDED:
            found.discard("shard")
        if getattr(self.args, "cache_teacher", False) and self.args.cache_dir is None:
            found.add("cache_teacher")
        filters = getattr(self.args, "mode", None) == "filters"  # of TED: nothing is a teacher
        if getattr(self.args, "teacher_dtype", "bf16") != "bf16" and not filters:
            found.add("teacher_dtype")
        return found

    @property
    def training(self) -> updates.Settings:
        """How is trained, for training.fit()."""
        return updates.Settings.of(vars(self.args))

    @property
    def inference(self) -> dict:
        """Batch size and precision of whatever is evaluated: options of utils.evaluation's functions."""
        return {"batch_size": self.args.per_device_eval_batch_size, "precision": self.args.precision}

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
        """Keep a checkpoint of the state under a name of its own in the run folder, with a card.  For the
        main process."""
        with files.new_folder(self.folder / name) as aside:
            files.link_tree(checkpoint, aside)
            record = run_folder.read_record(self.folder)
            config = files.read_json(aside / "config.json")
            if share := getattr(self.args, "hold_out", None):
                config[config_values.HOLD_OUT] = config.get(config_values.HOLD_OUT, {}) | {
                    self.args.task_name: share
                }
                files.write_json(aside / "config.json", config)
            own = getattr(self.args, "own_task", None)
            if own is not None or (config_values.OWN_TASK in config and hasattr(self.args, "task_name")):
                config.pop(config_values.OWN_TASK, None)
                if own is not None:
                    kept = {key: value for key, value in own.items() if key not in ("files", "found")}
                    kept["max_length"] = self.args.max_length
                    if own["kind"] == "spans":
                        kept["spans"] = {name: getattr(self.args, name) for name in flags.SPANS}
                    config[config_values.OWN_TASK] = kept
                files.write_json(aside / "config.json", config)
            card = cards.card(record, results, config, read=provenance.names_read())
            files.write_text(aside / "README.md", card)

    def save_clock(self):
        """Remember the seconds spent so far, for the next start, when a state is whole.  For the main
        process."""
        files.write_text(self.folder / "state" / "seconds", f"{self.seconds:.1f}")
        run_folder.drop_replaced(self.folder)

    def kept(self) -> str:
        """What is on the disk of this run, for whoever has interrupted it."""
        if self.args.dry_run:
            return "a dry run keeps nothing"
        if (self.folder / "results.json").exists():
            return f"{self.folder} holds the finished run; the same command does what else it asks for"
        from utils import snapshots

        found = []
        for entry in sorted(entry for entry in (self.folder / "state").glob("*") if entry.is_dir()):
            with contextlib.suppress(RunError):
                if (snapshot := snapshots.latest(entry)) is not None:
                    found.append(f"{entry.name} ({snapshot.name})")
                elif chunks := [*entry.glob("*.npz")]:
                    found.append(f"{entry.name} ({len(chunks)})")
                elif (entry / "config.json").exists() and files.target_of(entry.name) is None:
                    found.append(entry.name)
        if not found:
            return f"nothing that {self.folder} would continue from; the same command starts again"
        return f"{self.folder / 'state'} keeps {', '.join(found)}; the same command continues"

    def finish(self, checkpoint, *, metrics: dict, **results) -> Path:
        """Keep the selected checkpoint in ckpt/, write results.json, remove the state.  Idempotent until the
        last step.

        checkpoint: the folder to keep, or None.  metrics: {split: {name: value}}.  results: whatever else the
        stage found out.
        """
        interruptions.check()  # from here on every process has read what it needs of the state
        if distributed.is_main():
            task = {"task": self.args.task_name} if hasattr(self.args, "task_name") else {}
            seconds = round(self.seconds, 1)
            written = {
                "stage": self.args.stage,
                **task,
                "metrics": metrics,
                **self._report,
                **results,
                "seconds": seconds,
            }
            if checkpoint is not None:
                self.keep(checkpoint, "ckpt", written)
            files.write_json(self.folder / "results.json", written)
            run_folder.tidy(self.folder, finished=True)
        distributed.barrier()
        for split, values in metrics.items():
            logger.info("%s: %s", split, _line(values))
        drawn, command = next_steps.pictures(self.folder), next_steps.command(self.args)
        logger.info("finished in %s", logs.duration(self.seconds))
        if drawn and not self.args.dry_run:
            logger.info("pictures, beside each the same as SVG: %s", " ".join(drawn))
        if command and not self.args.dry_run:
            logger.info("next: %s", command)
        return self.checkpoint

    def add_results(self, **values):
        """Merge into results.json after the run has finished: test metrics, predictions.  For the main
        process."""
        results = run_folder.read_results(self.folder)
        for key, value in values.items():
            results[key] = {**results.get(key, {}), **value}
        files.write_json(self.folder / "results.json", results)


def start(args, *, inputs: dict) -> Run:
    """Processes, device, precision, run folder and log, in that order.  A new run's folder is made by its
    begin().

    inputs: {name: path of a checkpoint, list of data files, or {file: hash}}; the hashes are recorded and
    compared.
    A finished run is reported (raises Finished) unless tests or predictions are asked for; an unfinished one
    is continued; changed settings are a RunError that lists each difference; --overwrite starts afresh.
    """
    import torch

    global _current
    device = prepare(args)
    logs.start(is_main=distributed.is_main())
    interruptions.check()
    if distributed.is_main():
        files.clean(tempfile.gettempdir(), lambda name: name == _DRY_RUN)
    planned = Path(args.output_dir) if args.dry_run else None
    if args.dry_run:
        args.output_dir = distributed.gather(_scratch_folder() if distributed.is_main() else None)[0]
        if hasattr(args, "max_steps"):
            args.max_steps = flags.DRY_RUN_UPDATES
    torch.manual_seed(args.seed)
    folder = Path(args.output_dir)
    for name, path in provenance.paths(inputs) if not args.dry_run else ():
        if problem := paths.overlap(path, folder, by_name=Path(path).is_file()):
            raise RunError(f"{name} {path}: {problem}")
    hashes, now = provenance.hashes(inputs), provenance.this_start()
    made_of = provenance.ancestry(inputs)
    wanted = {
        "stage": args.stage,
        "settings": flags.settings(args),
        "inputs": hashes,
        "processes": distributed.world(),
    }
    answers = getattr(args, "do_test", False) or getattr(args, "do_infer", False)
    how = {"overwrite": args.overwrite, "answers": answers, "trains": getattr(args, "do_train", True)}
    status, seconds = _together(folder, lambda: run_folder.claim(folder, wanted, **how))
    run = _current = Run(
        folder,
        args,
        device,
        finished=status == "finished",
        record={**wanted, **now, **made_of} if status == "new" else None,
    )
    run.inputs, run.seconds_before, run.plans = hashes, seconds, planned
    if status != "new" and distributed.is_main():
        run.open()
        if not run.finished or answers:
            provenance.note_versions(folder, now)
    if run.finished and not answers:
        _announce_finished(run)
        raise Finished
    for line in (getattr(args, "own_task", None) or {}).get("found", ()):
        logger.info("%s", line)
    if getattr(args, "teacher_saw_hold_out", False):
        run.report(
            caution=(
                "checkpoints may know the rows that are held out: what these rows choose is biased towards "
                "them"
            )
        )
    if getattr(args, "teacher_dtype", None):
        run.report(teacher_dtype=args.teacher_dtype)
    logger.info(
        "%s -> %s | %s",
        " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "nothing, a dry run" if args.dry_run else folder,
        _hardware(device, args),
    )
    return run


def prepare(args):
    """Join the other processes and settle the precision; returns this process's torch.device.  Part of
    start()."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # A script that runs no model has no such flags
    device = distributed.start(getattr(args, "use_cpu", True))
    precision = getattr(args, "precision", "fp32")
    if precision is None:
        args.precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise FlagError("--precision fp16: needs a GPU; on a CPU choose fp32 or bf16")
    return device


def guard(main, parse):
    """Run a script: users' errors without a traceback, exit code 2; 130 after an interruption; what main
    returns printed last.

    A finished run is reported by its checkpoint's folder, or its own where it has none.
    """
    interruptions.listen(clean_up=_left_behind.close)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever has started this has closed it
            setattr(sys, name, open(os.devnull, "w"))
    code = 1  # of an error that is ours
    try:
        code = _outcome(main, parse)
        interruptions.leave()
    except KeyboardInterrupt:
        interruptions.leave()
        code = 130
        if distributed.is_main():
            kept = (
                [_current.kept(), *run_folder.say_replaced(_current.folder)]
                if _current
                else ["no run had begun"]
            )
            say("interrupted: " + "\n".join(kept))
    except Exception as error:
        if not (interruptions.asked() and distributed.world() > 1):
            raise
        code = 130  # the connection to another process, which had to end before they could stop together
        say(f"interrupted, and without the other processes: {error}")
    finally:
        _left_behind.close()
        distributed.stop()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # the interpreter's own end would end with another exit code
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _outcome(main, parse) -> int:
    """Run a script; returns its exit code."""
    debug, args = "--debug" in sys.argv, None
    try:
        args = parse()
        try:
            result = main(args)
        except Finished:
            result = next(
                path for path in (Path(args.output_dir, "ckpt"), Path(args.output_dir)) if path.exists()
            )
        interruptions.check()  # the last time: what comes later finds everything done
        if getattr(args, "dry_run", False):
            logger.info("a dry run: every step was done, nothing is kept")
        elif distributed.is_main() and result is not None:
            with files.writing("standard output"):
                print(result, flush=True)
    except BrokenPipeError:  # whoever read what is printed has left; the rest goes nowhere
        pass
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else of_machine(error)
        if debug or said is None:
            raise
        lines = [f"error: {message(flags.with_flag_name(args, said))}", *_what_is_kept(args, error)]
        say("\n".join(lines))
        return 2
    return 0


def _what_is_kept(args, error):
    """Yield what else a message has to say: whether the run can be continued, where the run is that it
    replaces."""
    folder = getattr(args, "output_dir", None)
    if not folder or args.dry_run or getattr(args, "predict", None) or not distributed.is_main():
        return
    if not isinstance(error, UserError) and run_folder.is_run(folder):
        command = "the same command" + " without --overwrite" * args.overwrite
        yield f"{folder}: what is there is kept; once this is mended, {command} continues"
    yield from run_folder.say_replaced(folder)


def _together(folder, work):
    """What work() returns, done by the main process, on all of them; they share its lock on the run folder
    then."""

    def locked():
        answer = work()
        return answer, distributed.world() > 1 and run_lock.share_lock(folder)

    answer, shared = distributed.from_main(locked)
    if shared and not distributed.is_main():
        run_lock.lock(folder, shared=True)
    return answer


def _scratch_folder() -> str:
    folder = files.scratch_folder(_DRY_RUN)
    _left_behind.callback(files.remove, folder)
    return str(folder)


def _hardware(device, args) -> str:
    import torch

    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return (
        f"{name}, {distributed.world()} process(es), {getattr(args, 'precision', 'no model')}, seed "
        f"{args.seed}"
    )


def _line(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(item)}" for key, item in value.items())
    return logs.number(value)


def _announce_finished(run):
    results = run_folder.read_results(run.folder)
    logger.info("%s: finished before (--overwrite starts it afresh)", run.folder)
    for split, values in results["metrics"].items():
        logger.info("%s: %s", split, _line(values))
