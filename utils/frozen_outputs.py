"""A frozen teacher's outputs for batches of a split: computed anew, or kept from one pass over the split.

B examples, L tokens, T tokens of a whole split, D hidden size.
"""

import math

import numpy as np
import torch

from utils import interruptions, logs, memory
from utils.evaluation import autocast

logger = logs.logger


class FrozenOutputs:
    """A frozen model in eval mode, run without gradients; never wrapped for several processes, never saved.

    layers: indices of the hidden states wanted (0 is the embedding output).  Call it with a batch: (logits,
    [states_BLD, ...]). pool: what is wanted of the states instead of all tokens: a function (state_BLD,
    mask_BL) -> [B, 1, D].
    reads: the split whose rows it reads instead of the batch's, where its ids are others than those of the
    model that is trained; then what is wanted must not be one value for each token.
    Its outputs do not change during a run, so cache(split) computes them once; the rows are then found by
    batch.indices.
    """

    def __init__(self, model, *, layers, precision: str, pool=None):
        self.model, self.layers, self.precision, self.pool = model, list(layers), precision, pool
        self._logits, self._states, self._starts, self._tags = None, None, None, False
        self.reads = None

    def __call__(self, batch):
        """(logits, states) of a batch, on the batch's device."""
        if self._logits is not None:
            return self._recall(batch)
        if self.reads is None:
            return self._run(batch)
        return self._run(self.reads.collate(batch.indices).to(batch.inputs["input_ids"].device))

    @torch.no_grad()
    def _run(self, batch):
        with autocast(batch.inputs["input_ids"].device, self.precision):
            output = batch.through(self.model, output_hidden_states=bool(self.layers))
        states = [output.hidden_states[layer] for layer in self.layers]
        states = [(state if self.pool is None else self.pool(state, batch.mask)).float() for state in states]
        return output.logits.float(), states

    def cache(self, split, *, batch_size: int):
        """Keep the outputs for every row of a split in main memory: 4 bytes a number in fp32, else 2.

        Raises RunError, after the first batch, where they would not fit.
        """
        split = self.reads or split
        device = next(self.model.parameters()).device
        lengths = np.asarray(split.lengths) if self.pool is None else np.ones(len(split), np.int64)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        kept = torch.float32 if self.precision == "fp32" else torch.bfloat16
        logits = [None] * len(split)
        for indices in split.in_order(batch_size):
            interruptions.check()
            batch = split.collate(indices).to(device)
            rows, states = self._run(batch)
            if self._states is None:
                shape = (len(self.layers), int(self._starts[-1]), states[0].shape[-1] if states else 0)
                # Rows one by one, then together
                of_logits = 2 * 4 * rows.shape[-1] * (len(split) if rows.ndim == 2 else sum(split.lengths))
                num_bytes = math.prod(shape) * kept.itemsize
                memory.require(
                    num_bytes + int(of_logits),
                    what=(
                        f"--cache_teacher: the outputs of {shape[0]} layers, {shape[2]} numbers of "
                        f"{kept.itemsize} bytes for each of {shape[1]} tokens in {len(split)} rows, and the "
                        "logits"
                    ),
                    advice=(
                        "leave --cache_teacher out, or choose a smaller --max_length or --max_train_samples"
                    ),
                )
                self._states = torch.empty(shape, dtype=kept)
                logger.info("outputs of the frozen model kept in memory: %s", memory.in_words(num_bytes))
            positions, mask = torch.from_numpy(self._positions(indices)), self._mask(batch)
            for number, state_BLD in enumerate(states):
                self._states[number, positions] = state_BLD[mask].to("cpu", kept)
            for index, row, real in zip(indices.tolist(), rows.cpu(), mask.cpu()):
                # [C], or [tokens, C] where tokens are scored
                logits[index] = row if row.ndim == 1 else row[real]
        self._tags = logits[0].ndim == 2
        self._logits = torch.cat(logits) if self._tags else torch.stack(logits)

    def _mask(self, batch):
        """[B, L] bool, True for the tokens whose states are wanted; [B, 1] where one is made of them."""
        return batch.mask if self.pool is None else torch.ones_like(batch.mask[:, :1])

    def _positions(self, indices) -> np.ndarray:
        """Where the wanted tokens of some rows stand among the T tokens of the split, row after row."""
        starts, lengths = self._starts[indices], np.diff(self._starts)[indices]
        ends = np.cumsum(lengths)
        return np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)

    def _recall(self, batch):
        device, mask = batch.inputs["input_ids"].device, self._mask(batch)
        positions = torch.from_numpy(self._positions(batch.indices))

        def padded(flat):
            full = torch.zeros(*mask.shape, flat.shape[-1], device=device)
            full[mask] = flat.to(device).float()
            return full

        if self._tags:
            logits = padded(self._logits[positions])
        else:
            logits = self._logits[torch.from_numpy(batch.indices)].to(device)
        return logits, [padded(states[positions]) for states in self._states]
