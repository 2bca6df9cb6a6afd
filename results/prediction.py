"""How long a block will take: one job of each kind is run for 50 updates, after such runs of what it needs.

    predicted = what is not training + updates x seconds of one + an evaluation of the hold-out rows after
    each epoch

An upper bound where patience can end a run; what scores 40,000 dev rows does so in the prediction too.
"""

import json
import math
import statistics
from dataclasses import replace

from results.jobs import Run
from results.runner import Runner
from utils import files

UPDATES = 50


class Predictor(Runner):
    """Runs into folders of its own; real weights are taken where they are."""

    def __init__(self, jobs, **options):
        super().__init__(jobs, **options)
        self.real = Runner(jobs, **options)

    def folder(self, job):
        """The real run folder where it is whole, or the job needs no other and trains nothing; else one for
        the short run."""
        real = self.real.folder(job)
        is_real = self.real.is_whole(job) or not (is_trained(job) or job.references(Run))
        return real if is_real else self.output / "predicted" / job.name

    def is_done(self, job):
        """Nothing is recorded here."""
        return self.is_whole(job)

    def best(self, kind, seed):
        """Any job of a kind costs what the others do; one that has been run, if there is one."""
        tried = self.jobs.of(kind, seed)
        return next((job for job in tried if self.real.is_whole(job)), tried[0])

    def rivals(self, kind, seed):
        """None: what is best here is known without them."""
        return []

    def words(self, job):
        """A stage that trains nothing runs as it is."""
        short = {"--max_steps": UPDATES, "--log_interval": 10} if is_trained(job) else {}
        return super().words(replace(job, flags={**job.flags, **short}))

    def predict(self, wanted) -> dict:
        """Write predicted.json of each block that has jobs among the wanted ones: {"kinds": {kind: {...}},
        "hours"}.  Returns what make() does of those that cannot be done."""
        problems = {}
        for block in dict.fromkeys(job.block for job in wanted):
            path = self.kept / block[0] / block / "predicted.json"
            kinds = files.read_json(path)["kinds"] if path.exists() else {}
            for kind in dict.fromkeys(job.kind for job in wanted if job.block == block):
                job = self.jobs.of(kind)[0]
                if found := self.make([job], weights=True):
                    problems.update(found)
                    continue
                each = self.seconds(job) / 3600
                number = len(self.jobs.of(kind))
                kinds[kind] = {"jobs": number, "hours_each": round(each, 3), "hours": round(number * each, 2)}
                print(f"{kind}: {number} x {each:.2f} h = {number * each:.1f} h", flush=True)
            hours = round(sum(found["hours"] for found in kinds.values()), 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, {"kinds": kinds, "hours": hours})
            print(f"{block}: {hours:.1f} h", flush=True)
        return problems

    def seconds(self, job) -> float:
        """CPU seconds of the whole job."""
        cost = self._cost(job)
        if self.real.is_whole(job) or not is_trained(job):
            return cost.get("cpu", 0.0)
        results = files.read_json(self.folder(job) / "results.json")
        rows = [
            json.loads(line)
            for line in (self.folder(job) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        batch, total = int(job.flags["--per_device_train_batch_size"]), cost["cpu"]
        for stage in dict.fromkeys(row["stage"] for row in rows):
            logged = [row for row in rows if row["stage"] == stage and "examples_per_second" in row]
            update = (
                batch
                / statistics.median(row["examples_per_second"] for row in logged)
                * cost["cpu"]
                / cost["wall"]
            )
            planned = int(job.flags.get("--max_steps", 0))
            evaluations = planned // int(job.flags.get("--eval_interval", planned)) - 1 if planned else 0
            if not planned:
                epochs = int(job.flags["--num_train_epochs"])
                planned, evaluations = epochs * math.ceil(results["data"]["train"] / batch), epochs - 1
            held_out = results["data"].get("hold_out", 0) / batch
            total += (
                planned - logged[-1]["step"]
            ) * update + evaluations * held_out * update / 3  # no backward pass: a third
        return total


def is_trained(job) -> bool:
    """Whether a job has updates."""
    return job.is_run and job.script not in (
        "run_corpus.py",
        "run_sparsification.py",
        "run_vocabulary.py",
        "run_evaluation.py",
    )
