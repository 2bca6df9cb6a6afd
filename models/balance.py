"""The balance loss of a student with experts, and who got how many tokens.  Source: MiniMoE (Zhang et al.
2023).

E experts of a sublayer.
"""

import torch

from models import moe_bert
from modules.experts import balance_loss
from utils import distributed, logs
from utils.errors import FlagError

WEIGHT = 0.01


class Balance:
    """A loss term beside an objective's own, for whatever student; for one without experts there is none.

    student: with or without experts, maybe inside of another module.  weight: of the term; None for the
    published one.
    num_parts: micro-batches of an update: the log says that of several the term is not quite that of their
    whole.
    Raises FlagError where a weight is given and the student has no experts.
    """

    def __init__(self, student, weight=None, *, num_parts=1):
        self.routers = moe_bert.routers(student)
        if weight is not None and not self.routers:
            raise FlagError(
                "--load_balance_weight: the student has no experts; leave it out, or take a student of "
                "run_minimoe.py"
            )
        self.weight = WEIGHT if weight is None else weight
        if self.routers and self.weight and num_parts > 1:
            logs.logger.info(
                "balance: counts what each expert gets of each of %d micro-batches, not of an update: "
                "accumulation is not quite one large batch",
                num_parts,
            )
        self.reset()

    def __call__(self, batch) -> dict:
        """{"balance": term} for the forward pass that the student has just made of a batch
        (utils.batch.Batch), or {}.

        Mean over layers of E sum_i P_i f_i; where attention has experts too, the mean of that of attention
        and of feed-forward. P_i is a mean over the update's tokens; f_i, which has no gradient, over those of
        the micro-batch in all processes: the update's is not known before its last micro-batch, so that
        accumulating several is not quite one large batch.
        """
        trained = {name: router for name, router in self.routers.items() if router.weight.requires_grad}
        passed = {name: router.routing for name, router in trained.items() if router.routing is not None}
        if not passed:
            return {}
        with torch.no_grad():
            counts = torch.cat([routing.counts_E for routing in passed.values()]).double() * batch.real
            sizes = [len(routing.counts_E) for routing in passed.values()]
            counted = dict(zip(passed, distributed.all_reduce(counts).split(sizes)))
        of_update = batch.mask.sum() / batch.divisors["tokens"]
        losses = {}
        for name, routing in passed.items():
            self.counts[name] = self.counts.get(name, 0) + counted[name]
            num_tokens = routing.counts_E.sum().clamp(min=1) / of_update
            loss = balance_loss(routing.sums_E, counted[name].to(routing.sums_E.dtype), num_tokens=num_tokens)
            losses.setdefault(name.partition("/")[0], []).append(loss)
        means = [torch.stack(values).mean() for values in losses.values()]
        return {"balance": self.weight * torch.stack(means).mean()} if self.weight else {}

    def beside(self, objective):
        """The objective, a function of student and batch, with this term beside its own."""
        return lambda student, batch: {**objective(student, batch), **self(batch)}

    # ---- What training.fit() logs beside the terms

    def reset(self, state=None):
        """Begin to count, or go on from what state() has given."""
        self.counts = {
            name: torch.tensor(counts, dtype=torch.double, device=self.routers[name].weight.device)
            for name, counts in (state or {}).items()
        }

    def state(self) -> dict:
        """What has been counted, as JSON can hold it."""
        return {name: counts_E.tolist() for name, counts_E in self.counts.items()}

    def values(self) -> dict:
        """{"experts/ffn/0": [share of the tokens that each expert got], ...} since reset(), of all
        processes."""
        return {
            f"experts/{name}": [
                round(share, 6) for share in (counts_E / counts_E.sum().clamp(min=1)).tolist()
            ]
            for name, counts_E in self.counts.items()
        }
