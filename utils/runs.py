"""How every script begins and ends: a run is started afresh, continued, or reported when finished."""

import atexit
import contextlib
import os
import shlex
import sys
import tempfile
from pathlib import Path

from utils import distributed, files, flags, interruptions, logs, provenance, run_folder
from utils.errors import FlagError, RunError, UserError, of_machine
from utils.flags import paths
from utils.printable import message, say
from utils.run import Run, as_text, together

logger = logs.logger
_left_behind = contextlib.ExitStack()  # what guard() removes
_current = None  # the Run that start() has made
_DRY_RUN = "bert-compression-dry-run"  # in the name of its folder in the temporary directory


class Finished(Exception):
    """The run had finished before; there is nothing to do but report it."""


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
    status, seconds = together(folder, lambda: run_folder.claim(folder, wanted, **how))
    run = _current = Run(
        folder,
        args,
        device,
        finished=status == "finished",
        record={**wanted, **now, **made_of} if status == "new" else None,
    )
    run.inputs, run.seconds_before, run.plans = hashes, seconds, planned
    if status != "new" and distributed.is_main():
        reported = run.finished and not answers
        with contextlib.suppress(OSError) if reported else contextlib.nullcontext():  # nobody can write here
            run.open()
        if not reported:
            provenance.note_versions(folder, now)
            provenance.note_tests(folder, hashes)
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
        shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
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
                [_current.say_kept(), *run_folder.say_replaced(_current.folder)]
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
        several = distributed.world() > 1
        distributed.stop()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # the interpreter's own end would end with another exit code
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if several:  # a thread of gloo's may still hold a tensor: the interpreter's own end would abort in it
        atexit._run_exitfuncs()
        os._exit(code)
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
        said = str(error) if isinstance(error, UserError) else of_machine(error) or distributed.lost(error)
        if debug or said is None or (interruptions.asked() and distributed.lost(error)):
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


def _announce_finished(run):
    results = run_folder.read_results(run.folder)
    logger.info("%s: finished before (--overwrite starts it afresh)", run.folder)
    for split, values in results["metrics"].items():
        logger.info("%s: %s", split, as_text(values))
