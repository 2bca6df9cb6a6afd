"""What makes an update: settings, learning rate, optimiser, and the micro-batches of each process."""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch

from utils import distributed


@dataclass(frozen=True)
class Settings:
    """Settings of training: what the flags of the same names say (utils/flags/groups.py, with the same
    defaults).

    num_train_epochs, max_steps: whichever comes first ends the training; one of them may be None.
    """

    per_device_train_batch_size: int = 32
    num_grad_accum_steps: int = 1
    learning_rate: float = 3e-5
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-6
    max_grad_norm: float = 5.0
    num_train_epochs: int | None = 10
    max_steps: int | None = None
    num_patience_epochs: int = 5
    lr_scheduler_type: str = "linear"
    warmup_proportion: float = 0.1
    warmup_steps: int | None = None
    eval_interval: int = 0
    seed: int = 776
    precision: str = "fp32"
    compile: bool = False
    log_interval: int = 50
    save_minutes: float = 5

    @classmethod
    def of(cls, values: dict) -> "Settings":
        """Those among the values of all flags, after runs.start(), which settles the precision."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def num_warmup(total: int, settings: Settings) -> int:
    """How many of all updates the warm-up takes: a given number of them, or a share, rounded up."""
    if settings.warmup_steps is not None:
        return min(settings.warmup_steps, total)
    return math.ceil(total * settings.warmup_proportion)


def learning_rate(update: int, *, total: int, peak: float, num_warmup: int, kind: str) -> float:
    """The rate of an update, counted from 0: linear warm-up over the first ones, then linear, cosine or
    constant."""
    if update < num_warmup:
        return peak * (update + 1) / num_warmup
    progress = (update - num_warmup) / max(1, total - num_warmup)
    return (
        peak
        * {"linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress)), "constant": 1.0}[kind]
    )


def optimizer(model, settings: Settings) -> torch.optim.AdamW:
    """AdamW over what is trained; decay on matrices only, not on biases and norms."""
    groups = [{"params": [], "weight_decay": settings.weight_decay}, {"params": [], "weight_decay": 0.0}]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and not name.endswith("bias")  # experts' biases are stacked
            groups[0 if is_matrix else 1]["params"].append(parameter)
    betas = (settings.adam_beta1, settings.adam_beta2)
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=betas, eps=settings.adam_epsilon, fused=True
    )


def micro_batches(update, *, per_device: int) -> list[tuple[np.ndarray, bool]]:
    """This process's micro-batches of an update, as (positions, real).

    update: [N] positions of all the examples of one update.  It is cut into micro-batches of at most
    per_device examples for each process.  A process left without examples gets one that is not real: it runs
    along with weight 0.
    """
    world, rank = distributed.world(), distributed.rank()
    parts = []
    for chunk in np.array_split(update, math.ceil(len(update) / (per_device * world))):
        part = np.array_split(chunk, world)[rank]
        parts.append((part, True) if len(part) else (chunk[:1], False))
    return parts
