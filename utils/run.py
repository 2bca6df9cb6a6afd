"""One run: its folder and what it keeps there.  runs.py makes it.

args.json  log.txt  metrics.jsonl  results.json  ckpt/  state/  predictions/
"""

import contextlib
import shlex
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
from utils.errors import RunError

logger = logs.logger


class Run:
    """One run folder and this process's place in it.  Made by start().

    folder: Path.  device: torch.device.  args: resolved flags.  finished: results.json exists, only tests and
    predictions are left.  metrics: the metrics.jsonl writer.  inputs: {name: hash} of what is read.  record:
    what args.json will hold, or None where the folder is there already.  plans: the folder that the run would
    have, of a dry run; else None.
    """

    def __init__(self, folder, args, device, *, finished, record=None):
        self.folder, self.args, self.device, self.finished = Path(folder), args, device, finished
        self.started = time.monotonic()
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
        return self.seconds_before + time.monotonic() - self.started

    def begin(self):
        """Make the run folder, unless this run began in an earlier start.  Nothing is written to it before.

        Called when the data have been read and the models loaded: bad input leaves no folder behind, and with
        --overwrite the old run stays until here; then it is moved aside, and removed when this one has a
        first state or a result.
        """
        interruptions.check()
        if self._record is None:
            return
        together(self.folder, self._make)
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
        if any(flags.whole_for(self.args)):
            found.discard("shard")
        if getattr(self.args, "cache_teacher", False) and self.args.cache_dir is None:
            found.add("cache_teacher")
        filters = getattr(self.args, "mode", None) == "filters"  # of TED: nothing is a teacher
        if getattr(self.args, "teacher_dtype", "bf16") != "bf16" and not filters:
            found.add("teacher_dtype")
        return found

    @property
    def training(self) -> updates.Settings:
        """Settings of training, for training.fit()."""
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
            text = "\n" + logs.table(value) if isinstance(value, list) else as_text(value)
            if (
                isinstance(value, dict)
                and len(value) > 1
                and all(isinstance(v, dict) for v in value.values())
            ):
                text = "".join(f"\n{name}: {as_text(item)}" for name, item in value.items())
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
                    config[config_values.OWN_TASK] = self._described(own)
                files.write_json(aside / "config.json", config)
            card = cards.card(record, results, config, read=provenance.names_read())
            files.write_text(aside / "README.md", card)

    def _described(self, own) -> dict:
        """What a checkpoint knows of a task of the user's own: how its rows were read here, or, where this
        stage had no need to say that, before."""
        kept = {key: value for key, value in own.items() if key not in ("files", "found")}
        if self.args.max_length is not None:
            kept["max_length"] = self.args.max_length
        spans = {name: value for name in flags.SPANS if (value := getattr(self.args, name, None)) is not None}
        if own["kind"] == "spans" and spans:
            kept["spans"] = own.get("spans", {}) | spans
        return kept

    def save_clock(self):
        """Remember the seconds spent so far, for the next start, when a state is whole.  For the main
        process."""
        files.write_text(self.folder / "state" / "seconds", f"{self.seconds:.1f}")
        run_folder.drop_replaced(self.folder)

    def say_kept(self) -> str:
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
            logger.info("%s: %s", split, as_text(values))
        logger.info("finished in %s", logs.duration(self.seconds))
        if self.args.dry_run:
            return self.checkpoint
        if drawn := next_steps.pictures(self.folder):
            logger.info("pictures, beside each the same as SVG: %s", shlex.join(drawn))
        if command := next_steps.command(self.args):
            logger.info("next: %s", command)
        return self.checkpoint

    def add_results(self, **values):
        """Merge into results.json after the run has finished: test metrics, predictions.  For the main
        process."""
        results = run_folder.read_results(self.folder)
        for key, value in values.items():
            results[key] = {**results.get(key, {}), **value}
        files.write_json(self.folder / "results.json", results)


def together(folder, work):
    """What work() returns, done by the main process, on all of them; they share its lock on the run folder
    then."""

    def locked():
        answer = work()
        return answer, distributed.world() > 1 and run_lock.share_lock(folder)

    answer, shared = distributed.from_main(locked)
    if shared and not distributed.is_main():
        run_lock.lock(folder, shared=True)
    return answer


def as_text(value):
    """Results as one line of a log."""
    if isinstance(value, dict):
        shown = {
            key: f"{v:g}%" if key == "sparsity" and isinstance(v, int | float) else as_text(v)
            for key, v in value.items()
        }
        return ", ".join(f"{key} {text}" for key, text in shown.items())
    return logs.number(value)
