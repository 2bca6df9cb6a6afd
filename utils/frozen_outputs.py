"""A frozen teacher's outputs for batches of a split: computed anew, or kept from one pass over the split, in
main memory or on the disk.

B examples, L tokens, N rows and T tokens of a whole split, D hidden size, C numbers that a head gives.
"""

import hashlib
import json
import math

import numpy as np
import torch

from utils import cost, distributed, interruptions, kept_on_disk, logs, memory
from utils.evaluation import autocast

logger = logs.logger
MEMORY = "memory"  # where cache() keeps outputs, if not in a folder


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

    def __init__(self, model, *, layers, precision: str, pool=None, reads=None):
        self.model, self.layers, self.precision, self.pool = model, list(layers), precision, pool
        self.reads = reads
        # Bytes that are kept now; that are to be kept, also where a dry run has few of the rows
        self.in_memory, self.planned = 0, {"memory": 0, "disk": 0}
        # What is kept: "states" [T, layers, D], "logits" [N, C] or [T, C]; which token each row begins with,
        # how many are kept of it, and which row it is, in the order in which the rows were computed
        self._kept, self._starts, self._lengths, self._places, self._tags = None, None, None, None, False

    def __call__(self, batch):
        """(logits, states) of a batch, on the batch's device."""
        if self._kept is not None:
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

    def cache(self, split, *, batch_size: int, where):
        """Keep the outputs for every row of a split: states in 4 bytes a number in fp32, else 2; logits in 4.

        where: MEMORY, or a folder: then they are memory-mapped from there, and computed and written only if
        no run has done so before; the processes share that work.  Both give the same bits.
        Raises RunError, after the first batch, where they would not fit.
        """
        split = self.reads or split
        batches = split.in_order(batch_size)
        order = np.concatenate(batches)
        self._lengths = np.asarray(split.lengths) if self.pool is None else np.ones(len(split), np.int64)
        self._starts, self._places = np.empty(len(split), np.int64), np.empty(len(split), np.int64)
        self._starts[order] = np.cumsum(self._lengths[order]) - self._lengths[order]
        self._places[order] = np.arange(len(split))
        first = self._outputs(split, batches[0])
        num_tokens = int(self._lengths.sum())
        numbers = {"states": num_tokens, "logits": num_tokens if self._tags else len(split)}
        sizes = {name: ((numbers[name], *kept.shape[1:]), kept.dtype) for name, (_, kept) in first.items()}
        num_bytes = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in sizes.items()}
        total = sum(num_bytes.values())
        self.in_memory = total if where == MEMORY else 0
        rows, tokens = split.whole_size
        of_all = {"states": tokens if self.pool is None else rows, "logits": tokens if self._tags else rows}
        self.planned["memory" if where == MEMORY else "disk"] = sum(
            size * of_all[name] // numbers[name] for name, size in num_bytes.items()
        )
        what = f"the logits of {len(split)} rows"
        advice = "choose a smaller --max_length or --max_train_samples, or leave --cache_teacher out"
        if self.layers:
            (tokens, layers, width), kept = sizes["states"]
            what = (
                f"the outputs of {layers} layers, {width} numbers of {kept.itemsize} bytes for each of "
                f"{tokens} tokens in {len(split)} rows, and the logits"
            )
            advice += (
                "; logits alone, for an objective that looks at nothing else (kd), take "
                f"{memory.in_words(num_bytes['logits'])}"
            )
        if where == MEMORY:
            memory.require(
                total, what=f"--cache_teacher: {what}", advice=f"choose --cache_teacher disk, or {advice}"
            )
            logger.info("outputs of the frozen model kept in memory: %s", memory.in_words(total))
            self._kept = {name: torch.empty(shape, dtype=kept) for name, (shape, kept) in sizes.items()}
            for indices in batches:
                interruptions.check()
                for name, (start, part) in self._outputs(split, indices).items():
                    self._kept[name][start : start + len(part)] = part
        else:
            self._kept = kept_on_disk.tensors(
                where,
                self._described(split, batches, first),
                sizes=sizes,
                batches=batches,
                compute=lambda indices: self._outputs(split, indices),
                what=what,
                advice=advice,
            )

    def _outputs(self, split, indices):
        """{name: (where it begins in what is kept, the outputs of these rows)}, in main memory, as they are
        kept."""
        device = next(self.model.parameters()).device
        batch = split.collate(indices).to(device)
        logits, states = self._run(batch)
        mask, kept = self._mask(batch), torch.float32 if self.precision == "fp32" else torch.bfloat16
        self._tags = logits.ndim == 3  # one answer for each token
        start, place = int(self._starts[indices[0]]), int(self._places[indices[0]])
        found = {"logits": (start, logits[mask].cpu()) if self._tags else (place, logits.cpu())}
        if states:
            states = torch.stack([state_BLD[mask] for state_BLD in states], dim=1)
            found["states"] = start, states.to("cpu", kept)
        return found

    def _described(self, split, batches, first) -> dict:
        """What the outputs follow from, to the bit: the same description means the same outputs.

        Hashes of the weights, of the batches as the model reads them, and of its answers to the first one,
        which tell of all that neither weights nor settings do.
        """
        return {
            "model": _hash_of_model(self.model),
            "batches": _hash_of_batches(split, batches),
            "first answers": _hash_of_tensors({name: part for name, (_, part) in first.items()}),
            "rows": len(split),
            "layers": [int(layer) for layer in self.layers],
            "pool": None if self.pool is None else self.pool.__name__,
            "precision": self.precision,
            "computed on": cost.hardware(next(self.model.parameters()).device),
        }

    def _mask(self, batch):
        """[B, L] bool, True for the tokens whose states are wanted; [B, 1] where one is made of them."""
        return batch.mask if self.pool is None else torch.ones_like(batch.mask[:, :1])

    def _positions(self, indices) -> np.ndarray:
        """Where the wanted tokens of some rows stand among the T tokens that are kept, row after row."""
        starts, lengths = self._starts[indices], self._lengths[indices]
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
            logits = padded(self._kept["logits"][positions])
        else:
            logits = self._kept["logits"][torch.from_numpy(self._places[batch.indices])].to(device)
        states = self._kept["states"][positions].unbind(1) if self.layers else ()
        return logits, [padded(flat) for flat in states]


def _hash_of_model(model) -> str:
    """Hex SHA-256 of a model's tensors, and of what its configs say but for where it came from."""
    digest = hashlib.sha256()
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    for config in configs.values():
        said = config.to_dict() | {"attention": config._attn_implementation}
        for name in ("_name_or_path", "transformers_version"):
            said.pop(name, None)
        digest.update(json.dumps(said, sort_keys=True, default=str).encode())
    named = [*model.named_parameters(), *model.named_buffers()]
    tensors = {name: distributed.local(tensor.detach()) for name, tensor in named}
    digest.update(_hash_of_tensors(tensors).encode())
    # Of a model that is shared out each process has its rows
    shared_out = distributed.is_shared_out(model)
    parts = distributed.gather(digest.hexdigest()) if shared_out else [digest.hexdigest()]
    return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _hash_of_batches(split, batches) -> str:
    """Hex SHA-256 of some rows' numbers and of what the model reads of them."""
    digest = hashlib.sha256()
    for indices in batches:
        digest.update(np.ascontiguousarray(indices, np.int64))
        digest.update(_hash_of_tensors(split.collate(indices).inputs).encode())
    return digest.hexdigest()


def _hash_of_tensors(tensors) -> str:
    """Hex SHA-256 of tensors, their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
