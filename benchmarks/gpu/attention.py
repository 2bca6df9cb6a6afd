"""Section "attention": ways to compute attention, in BERT-base without dropout, forward and backward.

On sequences all of one length, and on sequences of random lengths.  "packed" has their tokens one behind the
other and no padding, with torch's variable-length attention (on a CPU one sequence at a time).  What is not
to be had on this device, in this precision or for lack of a package is said; all others must find the same
states as plain products.
"""

import contextlib
import copy

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import reporting, timing
from benchmarks.gpu import made_up
from benchmarks.gpu.settings import extra_memory, in_short
from utils.evaluation import autocast

VOCABULARY = 100
SAME = 3e-2  # relative difference of states in 16 bits; 0.006 where all is right, 0.2 where padding is seen
# Way: (transformers' name for it, the only kernel that torch may take or None)
WAYS = {
    "eager": ("eager", None),
    "sdpa": ("sdpa", None),
    "sdpa, math": ("sdpa", SDPBackend.MATH),
    "sdpa, efficient": ("sdpa", SDPBackend.EFFICIENT_ATTENTION),
    "sdpa, flash": ("sdpa", SDPBackend.FLASH_ATTENTION),
    "sdpa, cudnn": ("sdpa", SDPBackend.CUDNN_ATTENTION),
    "flash_attention_2": ("flash_attention_2", None),
    "flash_attention_3": ("flash_attention_3", None),
    "packed": ("packed", None),
}
NEEDED = ("eager", "sdpa")


def rows(settings):
    """One for each way and sort of batch."""
    for tokens, number in settings.pick(((128, 128), (512, 32)), ((128, 128),), ((16, 3),)):
        for ragged in (False, True):
            yield from compare(Sequences(number, tokens, ragged, settings.device), settings)


class Sequences:
    """Random tokens, padded and packed.  ragged: of random lengths, from an eighth of `tokens` on.

    N sequences, L tokens of the longest, T in all.
    """

    def __init__(self, number, tokens, ragged, device):
        generator = torch.Generator().manual_seed(0)
        lengths_N = torch.full((number,), tokens)
        if ragged:
            lengths_N = torch.randint(max(1, tokens // 8), tokens + 1, (number,), generator=generator)
        mask_NL = torch.arange(tokens) < lengths_N[:, None]
        ids_NL = torch.randint(5, VOCABULARY, mask_NL.shape, generator=generator) * mask_NL
        ids_T = ids_NL[mask_NL]
        places_T = torch.cat([torch.arange(length) for length in lengths_N])
        self.name = {"sequences": number, "tokens": tokens, "lengths": "random" if ragged else "equal"}
        self.padded = {"input_ids": ids_NL.to(device), "token_type_ids": torch.zeros_like(ids_NL).to(device)}
        if ragged:  # without a mask torch may choose among more kernels
            self.padded["attention_mask"] = mask_NL.long().to(device)
        packed = {"input_ids": ids_T, "token_type_ids": torch.zeros_like(ids_T), "position_ids": places_T}
        self.packed = {name: tensor_T[None].to(device) for name, tensor_T in packed.items()}
        self.mask_NL, self.lengths = mask_NL.to(device), lengths_N.tolist()
        self.ends = F.pad(lengths_N.cumsum(0), (1, 0)).to(device, torch.int32)


def packed_attention(sequences):
    """A function as transformers wants them, for a batch of one in which sequences lie one behind the
    other."""

    def attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
        assert attention_mask is None and not dropout
        flat = [states_1HTK[0].transpose(0, 1) for states_1HTK in (query, key, value)]
        if query.device.type == "cuda":
            from torch.nn.attention.varlen import varlen_attn  # since torch 2.10

            longest = max(sequences.lengths)
            return varlen_attn(*flat, sequences.ends, sequences.ends, longest, longest)[None], None
        parts = zip(*(states_THK.transpose(0, 1).split(sequences.lengths, dim=1) for states_THK in flat))
        made_HTK = torch.cat([F.scaled_dot_product_attention(*part) for part in parts], dim=1)
        return made_HTK.transpose(0, 1)[None], None

    return attention


def compare(sequences, settings):
    """Rows: milliseconds of each way, and how many times as fast it is as what torch chooses by itself."""
    transformers.AttentionInterface.register("packed", packed_attention(sequences))
    sizes = {**made_up.sizes(settings), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, initializer_range=0.05, **sizes
    )  # so that attention matters
    model = transformers.BertModel(config, add_pooling_layer=False).to(settings.device)
    rows, calls, expected = {}, {}, None
    for way, (name, kernel) in WAYS.items():
        rows[way] = {**sequences.name, "attention": way}
        try:
            calls[way] = step(copy.deepcopy(model), name, kernel, sequences, settings)
            states = calls[way]()
        except Exception as error:
            if way in NEEDED:
                raise
            calls.pop(way, None)
            rows[way]["not to be had"] = in_short(error)
            continue
        expected = states if expected is None else expected
        rows[way]["difference"] = float((states - expected).norm() / expected.norm())
        rows[way]["passed"] = rows[way]["difference"] <= SAME
    options = {"number": settings.pick(5, 3, 1), "seconds": settings.pick(0.5, 0.3, 0.0)}
    rounds = timing.in_turns(calls, device=settings.device, **options)
    for way, call in calls.items():
        rows[way]["ms"] = 1000 * reporting.median(rounds, way)
        rows[way]["sdpa / this"] = float(np.median([row["sdpa"] / row[way] for row in rounds]))
        if settings.device == "cuda":
            rows[way]["MiB"] = extra_memory(call)
    yield from rows.values()


def step(model, name, kernel, sequences, settings):
    """A function: forward and backward; it returns the states of all real tokens, [T, D]."""
    model.set_attn_implementation(name)
    model.train()
    packed = name == "packed"

    def call():
        with sdpa_kernel(kernel) if kernel else contextlib.nullcontext():
            with autocast(model.device, settings.precision):
                states = model(**(sequences.packed if packed else sequences.padded)).last_hidden_state.float()
            states_TD = states[0] if packed else states[sequences.mask_NL]
            half = states_TD[:, ::2]  # the mean square of whole states is what the last norm makes it
            half.square().mean().backward()
        model.zero_grad(set_to_none=True)
        return states_TD.detach()

    return call
