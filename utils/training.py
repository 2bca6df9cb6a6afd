"""The training loop, once, for every method.

An objective takes a batch (utils.batch.Batch) and returns its loss terms by name, already weighted: the loop
adds, logs, scales, accumulates, clips and steps.  It may instead return a list of functions that return such
terms: each is run forward and backward before the next, so that several sub-networks of one student cost the
memory of the largest (the last must use every parameter).
A term is a sum divided by one of batch.divisors, so that cutting an update into micro-batches or processes
does not change it.
"""

import math
import time
import warnings
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from utils import allocator, cost, distributed, interruptions, logs, plan, snapshots
from utils.errors import RunError
from utils.evaluation import Score, autocast
from utils.interruptions import Interrupted
from utils.updates import Settings, learning_rate, micro_batches, num_warmup, optimizer
from utils.window import Window

logger = logs.logger
_MOST_GRAPHS = 256  # of a compiled model; torch's own limit is 8


@dataclass
class Result:
    """The outcome of fit().  checkpoint: folder of the best model; metrics and choice are those of its
    evaluation."""

    checkpoint: str
    best_step: int
    num_steps: int
    metrics: dict
    last_metrics: dict
    choice: dict
    seconds: float

    @property
    def outcome(self) -> dict:
        """What run.finish() keeps of it."""
        names = ("metrics", "last_metrics", "best_step", "num_steps")
        return {name: getattr(self, name) for name in names}


class _Progress:
    """A bar on a terminal; nothing in a log, where the logged lines are the progress."""

    def __init__(self, total, done, stage):
        from tqdm import tqdm

        self.bar = tqdm(total=total, initial=done, desc=stage, unit="update", disable=None, leave=False)
        self.update, self.close = self.bar.update, self.bar.close


def fit(
    student,
    objective,
    train,
    *,
    evaluate,
    save,
    settings: Settings,
    run,
    stage="train",
    draws=None,
    watch=None,
    beside=(),
) -> Result:
    """Train a student, keep its best state, continue where an earlier start of the same run stopped.

    objective(student, batch): loss terms (see the top of this file); the student it gets may be wrapped for
    several processes. train: a split with counts(), collate() and epoch().  evaluate() -> Score, called every
    eval_interval updates and at the end. save(folder, score): writes the student as it is now; called
    whenever the score improves.
    watch: has values() -> {name: what is logged beside the terms} since reset(), and state() -> what JSON can
    hold of it, which reset(state) goes on from; None: nothing is.
    draws: the stage whose name seeds dropout; None: this one.
    beside: what else is in memory meanwhile, for a dry run's plan: modules and FrozenOutputs.
    Data order, dropout and whatever else is random are functions of (seed, update): a run killed at any
    moment and started again ends with the same bits, and the same rows in metrics.jsonl.  Raises Interrupted
    after saving; RunError where a loss or gradient is not finite, or where a state does not hold everything.
    """
    with interruptions.held():
        return _Loop(
            student, objective, train, evaluate, save, settings, run, stage, draws or stage, watch, beside
        ).run_to_end()


def finished(run, stage: str) -> Result | None:
    """The result of a stage of this run that has been trained to its end, or None: nothing needs to be
    prepared for it then."""
    snapshot = snapshots.latest(run.state(stage))
    values = snapshots.read_values(snapshot) if snapshot is not None else {"done": False}
    if not values["done"]:
        return None
    best, last = Score(**values["best"]), Score(**values["last"])
    return Result(
        str(snapshot / "best"),
        values["best_step"],
        values["step"],
        best.metrics,
        last.metrics,
        best.choice,
        round(values["seconds"], 1),
    )


class _Agreed(NamedTuple):
    """What holds in one of the processes, and therefore for all: an update is done, or a state saved, by all
    or by none."""

    loss_not_finite: bool
    norm_not_finite: bool
    asked_to_stop: bool
    state_is_due: bool


class _Loop:
    def __init__(self, student, objective, train, evaluate, save, settings, run, stage, draws, watch, beside):
        self.student, self.objective, self.train, self.settings, self.run, self.stage = (
            student,
            objective,
            train,
            settings,
            run,
            stage,
        )
        self.evaluate, self.save, self.draws, self.watch = evaluate, save, draws, watch
        self.beside = beside
        self.device, self.folder = run.device, run.state(stage)
        self.shared_out = distributed.is_shared_out(student)
        self.per_update = (
            settings.per_device_train_batch_size * distributed.world() * settings.num_grad_accum_steps
        )
        self.per_epoch = math.ceil(len(train) / self.per_update)
        epochs, steps = settings.num_train_epochs or math.inf, settings.max_steps or math.inf
        self.total = min(self.per_epoch * epochs, steps)
        self.eval_interval = settings.eval_interval or self.per_epoch
        self.num_warmup = num_warmup(self.total, settings)
        # `position` counts updates tried; `step` those done: under fp16 an update may be skipped while the
        # scale is found
        self.position = self.step = self.best_step = 0
        self.best_value, self.best, self.last = -math.inf, None, None
        self.seconds, self.started = 0.0, time.monotonic()
        self.order_of, self.order = None, None
        self.evaluation_due = self.state_is_due = self.stop = False
        # Which state is on the disk; since when
        self.saved, self.saved_at, self.save_seconds = (None, time.monotonic(), 0.0)

    def run_to_end(self) -> Result:
        result = finished(self.run, self.stage)
        if result is not None:
            return result
        snapshot = snapshots.latest(self.folder)
        if self.device.type == "cpu" and not self.shared_out:
            allocator.keep_freed_memory()
        self.student.to(self.device).train()
        self.optimizer = optimizer(self.student, self.settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.settings.precision == "fp16")
        self.window = Window(self.device, self.watch)
        num_rows = self._restore(snapshot) if snapshot is not None else 0
        if self.run.metrics is not None:
            self.run.metrics.rewind(self.stage, num_rows, step=self.step)
        self.module = self._wrap()
        self._announce()
        planned = self._plan() if self.run.plans is not None else None
        if self.settings.compile:
            # A graph for each sparsity, trained and evaluated; what is beyond the limit would run uncompiled
            torch._dynamo.reset()
            torch._dynamo.config.recompile_limit = _MOST_GRAPHS
            self.student.compile()
        self.progress = _Progress(self.total, self.position, self.stage)
        try:
            if self.evaluation_due:
                self._evaluate()
            while self.position < self.total and not self._out_of_patience():
                if self.stop:
                    raise Interrupted
                self._update()
                if self.evaluation_due:
                    self._evaluate()
                elif self.state_is_due:
                    self._snapshot()
        except Interrupted:
            self._save_in_time()
            raise
        finally:
            self.progress.close()
        if self.step < self.position:
            skipped, tried = self.position - self.step, self.position
            logger.info("%s: fp16 skipped %d of %d updates to find its scale", self.stage, skipped, tried)
        if planned is not None:
            planned.say_measured(cost.peak_memory(self.device))
        self._snapshot(done=True)
        return finished(self.run, self.stage)

    # ---- One update

    def _update(self):
        """One update, or under fp16 a try."""
        before = self.step
        epoch, index = divmod(self.position, self.per_epoch)
        if self.order_of != epoch:
            self.order_of, self.order = epoch, self.train.epoch(self.settings.seed, epoch, self.per_update)
        update = self.order[index]
        rate = learning_rate(
            self.step,
            total=self.total,
            peak=self.settings.learning_rate,
            num_warmup=self.num_warmup,
            kind=self.settings.lr_scheduler_type,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        entropy = [self.settings.seed, *self.draws.encode(), self.position, distributed.rank()]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))
        divisors = {name: count / distributed.world() for name, count in self.train.counts(update).items()}
        terms = self._backward(
            micro_batches(update, per_device=self.settings.per_device_train_batch_size), divisors
        )
        norm = self._step(terms)
        self.position += 1
        self.progress.update(1)
        stepped = self.step > before
        self.window.add(terms, examples=len(update), norm=norm, done=stepped)
        if (stepped and self.step % self.settings.log_interval == 0) or self.position == self.total:
            self._log(rate)
        self.evaluation_due = (stepped and self.step % self.eval_interval == 0) or self.position == self.total

    def _backward(self, parts, divisors):
        """Forward and backward of all micro-batches; returns the update's terms as detached tensors."""
        terms = defaultdict(float)
        for number, (positions, real) in enumerate(parts):
            batch = self.train.collate(positions).to(self.device)
            batch.divisors, batch.update, batch.real = divisors, self.position, real
            last_part = number == len(parts) - 1
            with self._gradients_stay_here(not last_part), autocast(self.device, self.settings.precision):
                passes = self.objective(self.module, batch)
            if isinstance(passes, dict):
                passes = [lambda terms=passes: terms]
            for index, run_pass in enumerate(passes):
                with self._gradients_stay_here(not last_part or index < len(passes) - 1):
                    with autocast(self.device, self.settings.precision):
                        named = run_pass()
                    loss = sum(named.values()) * float(real)
                    self.scaler.scale(loss).backward()
                for name, term in named.items():
                    terms[name] = terms[name] + term.detach() * float(real)
        return dict(terms)

    def _gradients_stay_here(self, condition):
        """A context for a forward and its backward pass whose gradients are summed over the processes with
        later ones.

        A student that is shared out has no place for whole gradients: each pass gives every process its rows.
        """
        kept = condition and distributed.world() > 1 and not self.shared_out
        return self.module.no_sync() if kept else nullcontext()

    def _step(self, terms) -> float:
        """Check, clip and step; returns the gradient's norm."""
        self.scaler.unscale_(self.optimizer)
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        norm = distributed.whole(torch.nn.utils.get_total_norm(gradients, foreach=True))
        agreed = self._agree(torch.stack(list(terms.values())).float().sum(), norm)
        if agreed.asked_to_stop:
            self.stop = True
            interruptions.note()
        self.state_is_due = agreed.state_is_due
        if agreed.loss_not_finite or (agreed.norm_not_finite and self.settings.precision != "fp16"):
            self._not_finite(terms, float(norm))
        if 0 < self.settings.max_grad_norm < float(norm):
            torch.nn.utils.clip_grads_with_norm_(trained, self.settings.max_grad_norm, norm, foreach=True)
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        skipped = agreed.norm_not_finite
        if skipped and scale < 1:
            self._not_finite(terms, float(norm))
        self.step += not skipped
        return float(norm)

    def _agree(self, loss, norm) -> _Agreed:
        due = distributed.is_main() and 0 < 60 * self.settings.save_minutes < time.monotonic() - self.saved_at
        # Whether it has been asked to stop is read once: a signal that comes later waits for the next update
        own = torch.tensor([interruptions.asked(), due], dtype=torch.float, device=loss.device)
        found = torch.cat([torch.stack([~loss.isfinite(), ~norm.isfinite()]).float(), own])
        return _Agreed(*(value > 0 for value in distributed.all_reduce(found, "max").tolist()))

    def _not_finite(self, terms, norm):
        """Say whose fault it is, what is kept, and what can be done."""
        values = ", ".join(f"{name} {float(term):.4g}" for name, term in terms.items())
        broken = [name for name, tensor in self._tensors().items() if not tensor.isfinite().all()]
        broken = [*dict.fromkeys(name for names in distributed.gather(broken) for name in names)]
        snapshot = snapshots.latest(self.folder)
        what = (
            f"{self.stage}, update {self.step + 1}: loss or gradient is not finite ({values}; gradient norm "
            f"{norm:.4g})."
        )
        if broken and self.step == 0:
            more = "" if len(broken) == 1 else f" and {len(broken) - 1} more"
            raise RunError(
                f"{what}\nThe student's weights were not finite before training began: {broken[0]}{more}. No "
                "setting mends that: give another checkpoint, or write this one again."
            )
        kept = "No state had been saved yet."
        if snapshot is not None:
            kept = f"{snapshot} stays as it was; the same command would go on from there to the same end."
        raise RunError(
            f"{what}\nThis update was not done. {kept} Try a lower --learning_rate, a longer "
            "--warmup_proportion, a smaller "
            f"--max_grad_norm, or --precision bf16 or fp32 (now {self.settings.precision}), each with "
            "--overwrite: a run keeps "
            "its settings, so that others start it afresh."
        )

    # ---- The plan of a dry run

    def _plan(self) -> plan.Plan:
        """Say what this takes, before it is begun.  Raises RunError where it does not fit."""
        planned = plan.Plan(
            self.student,
            self._try,
            batch_size=self.settings.per_device_train_batch_size,
            num_accumulated=self.settings.num_grad_accum_steps,
            beside=[each for each in self.beside if each is not None],
            whole=getattr(self.train, "stands_for", None),
            device=self.device,
            in_buckets=self.module is not self.student,
            writes=distributed.is_main() or self.shared_out,
            spare=self.run.spare_flags,
            folder=self.run.plans,
        )
        planned.say()
        cost.forget_peak(self.device)
        return planned

    def _try(self, number, *, share=0.0) -> plan.Allocations:
        """What a forward and a backward pass of so many rows allocate; two of each where an update has
        several.

        share: of the rows that are longer than these: 0 for the longest.
        """
        if hasattr(self.train, "in_order"):
            batches = self.train.in_order(self.settings.per_device_train_batch_size)
            rows = batches[round(share * (len(batches) - 1))]
        else:  # a stream, whose rows are of one length
            update = self.train.epoch(self.settings.seed, 0, self.per_update)[0]
            rows, _ = micro_batches(update, per_device=self.settings.per_device_train_batch_size)[0]
        rows = rows[:number]
        parts = [(rows, True)] * min(2, self.settings.num_grad_accum_steps)
        with plan.Allocations(self.student.parameters()) as found:
            self._backward(parts, self.train.counts(rows))
        self.optimizer.zero_grad(set_to_none=True)
        return found

    # ---- Evaluation, states, the log

    def _evaluate(self):
        started = time.monotonic()
        score = self.evaluate()
        if score.value is None:
            score.value = self.position
        assert math.isfinite(score.value), "metrics are finite by construction"
        improved = score.value > self.best_value
        self.last = score
        row = {f"{split}/{name}": v for split, values in score.metrics.items() for name, v in values.items()}
        text = " ".join(f"{name} {logs.number(value)}" for name, value in row.items())
        choice = {name: v for name, v in score.choice.items() if not isinstance(v, list | dict)}
        text += f" of the pick, {choice.pop('pick'):g}S" if "pick" in choice else ""
        choice = "".join(f" | {name} {logs.number(value)}" for name, value in choice.items())
        logger.info("step %d/%d | %s%s%s", self.step, self.total, text, choice, " | best" if improved else "")
        self._row({**row, "score": score.value, **({"choice": score.choice} if score.choice else {})})
        if improved:
            self.best_value, self.best, self.best_step = score.value, score, self.step
        self.evaluation_due = False
        self.window.leave_out(time.monotonic() - started)
        if improved or self.state_is_due or self.settings.save_minutes == 0:
            self._snapshot(save_best=(lambda folder: self.save(folder, score)) if improved else None)

    def _out_of_patience(self) -> bool:
        patience = self.settings.num_patience_epochs * self.per_epoch
        out = self.best is not None and self.step - self.best_step >= max(patience, self.eval_interval)
        if out:
            logger.info("no improvement for %d updates: stopped", self.step - self.best_step)
        return out

    @torch.no_grad()
    def _tensors(self) -> dict:
        """{name: tensor} of everything that the student consists of; of what is shared out this process's
        rows."""
        named = [*self.student.named_parameters(), *self.student.named_buffers()]
        return {name: distributed.local(tensor) for name, tensor in named}

    def _save_in_time(self):
        """Save the state of an interrupted run, unless it is saved or would not be whole before the process
        is killed."""
        if self.saved == (self.position, self.evaluation_due):
            logger.info("interrupted after update %d: its state is saved", self.step)
            return
        left, needed = distributed.gather((interruptions.seconds_left(), self.save_seconds))[0]
        if left > 1.5 * needed:
            self._snapshot()
            logger.info("interrupted after update %d: its state has been saved", self.step)
        else:
            snapshot = snapshots.latest(self.folder)
            logger.warning(
                "interrupted after update %d: its state would take %.0f seconds, %.0f are left; %s",
                self.step,
                needed,
                left,
                f"{snapshot} stays the last one" if snapshot else "there is none yet",
            )

    def _snapshot(self, *, save_best=None, done=False):
        started = time.monotonic()
        window = self.window.state()
        if distributed.is_main() or self.shared_out:
            tensors = {}
            if not done:
                tensors = {f"student/{name}": tensor for name, tensor in self._tensors().items()}
                for index, state in self.optimizer.state_dict()["state"].items():
                    for key, tensor in state.items():
                        tensors[f"optimizer/{index}/{key}"] = distributed.local(tensor)
            values = {
                "done": done,
                "position": self.position,
                "step": self.step,
                "evaluation_due": self.evaluation_due,
                "best_step": self.best_step,
                "best": vars(self.best) if self.best else None,
                "last": vars(self.last) if self.last else None,
                "scaler": self.scaler.state_dict(),
                "window": window,
                "rows": self.run.metrics.sync(self.stage) if self.run.metrics is not None else 0,
                "seconds": self.seconds + time.monotonic() - self.started,
                "save_seconds": self.save_seconds,
            }
            snapshots.write(
                self.folder,
                f"snapshot-{self.position}{'-done' if done else ''}",
                tensors=tensors,
                values=values,
                save_best=save_best,
                shared_out=self.shared_out,
            )
        if distributed.is_main():
            self.run.save_clock()
        distributed.barrier()
        self.saved, self.saved_at = (self.position, self.evaluation_due), time.monotonic()
        self.save_seconds = self.saved_at - started
        self.window.leave_out(self.save_seconds)

    def _restore(self, snapshot) -> int:
        """Continue from a state; returns how many rows of metrics.jsonl belong to it."""
        tensors, values = snapshots.read(snapshot, self.device, shared_out=self.shared_out)
        named, moments = self._tensors(), defaultdict(dict)
        sizes = {f"student/{name}": tensor.shape for name, tensor in named.items()}
        found = {
            key: tensor.shape for key, tensor in tensors.items() if key in sizes or key.startswith("student/")
        }
        if found != sizes:
            name = next(name for name in {**sizes, **found} if sizes.get(name) != found.get(name))
            there, wanted = ([*shapes[name]] if name in shapes else "nothing" for shapes in (found, sizes))
            raise RunError(
                f"{snapshot}: of another student ({name}: found {there}, expected {wanted}); the program has "
                "changed; --overwrite starts afresh"
            )
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        with torch.no_grad():
            for key, tensor in tensors.items():
                kind, rest = key.split("/", 1)
                if kind == "student":
                    named[rest].copy_(tensor)
                else:
                    index, name = rest.split("/")
                    # A moment is as large as its parameter; the number of steps is not
                    part = self.shared_out and tensor.dim() > 0
                    whole = trained[int(index)]
                    moments[int(index)][name] = distributed.as_rows(tensor, whole) if part else tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": dict(moments), "param_groups": groups})
        self.scaler.load_state_dict(values["scaler"])
        self.position, self.step, self.best_step = values["position"], values["step"], values["best_step"]
        self.best = Score(**values["best"]) if values["best"] else None
        self.last = Score(**values["last"]) if values["last"] else None
        self.best_value = self.best.value if self.best else -math.inf
        self.seconds, self.save_seconds = values["seconds"], values["save_seconds"]
        self.evaluation_due = values["evaluation_due"]
        self.saved = self.position, self.evaluation_due
        self.window.begin(values["window"])
        logger.info("%s: continued from update %d", self.stage, self.step)
        return values["rows"]

    def _wrap(self):
        if distributed.world() == 1 or self.shared_out:
            return self.student
        devices = [self.device] if self.device.type == "cuda" else None
        # Its successor is not in the oldest torch that is supported
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        return torch.nn.parallel.DistributedDataParallel(self.student, devices, broadcast_buffers=False)

    def _announce(self):
        settings = self.settings
        logger.info(
            "%s: %d examples, %d updates (%d an epoch%s), %d examples an update = %d per process x %d "
            "processes x %d accumulated; warm-up %d updates; evaluated every %d",
            self.stage,
            len(self.train),
            self.total,
            self.per_epoch,
            self._ended_by(),
            self.per_update,
            settings.per_device_train_batch_size,
            distributed.world(),
            settings.num_grad_accum_steps,
            self.num_warmup,
            self.eval_interval,
        )

    def _ended_by(self) -> str:
        """Which of the two flags ends the training, where both are given."""
        epochs, steps = self.settings.num_train_epochs, self.settings.max_steps
        if epochs is None or steps is None or self.run.plans is not None:
            return ""
        limits = [f"--max_steps {steps}", f"--num_train_epochs {epochs}"]
        first, other = limits if self.total == steps else limits[::-1]
        return f"; {first} ends it, not {other}"

    def _log(self, rate):
        row, said = self.window.row(lr=rate, updates_left=self.total - self.position)
        done = 100 * self.position // self.total
        logger.info("step %d/%d %d%% | %s", self.step, self.total, done, said)
        self._row(row)
        self.window.begin()

    def _row(self, values):
        if self.run.metrics is not None:
            self.run.metrics.add(self.stage, self.step, values)
