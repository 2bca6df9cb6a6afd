"""Masked tokens of a corpus: batches with some of them masked, and the loss of a pretraining head.

B sequences, L tokens, M chosen tokens, V pieces, D hidden dimensions.  Source: Devlin et al. 2019, section
3.1.
"""

import contextlib

import numpy as np
import torch

from models import architectures
from modules.masking import mask_tokens, masked_loss
from utils import distributed
from utils.evaluation import autocast, share

PROBABILITY, AT_MOST = 0.15, 20  # of a sequence's tokens


def masked_inputs(batch, tokenizer, *, probability=PROBABILITY, at_most=None):
    """(inputs with some tokens masked, chosen_BL) of a batch (utils.batch.Batch); draws from torch's random
    numbers."""
    ids_BL = batch.inputs["input_ids"]
    special = torch.tensor(tokenizer.all_special_ids, device=ids_BL.device)
    masked_BL, chosen_BL = mask_tokens(
        ids_BL,
        batch.mask & ~torch.isin(ids_BL, special),
        probability=probability,
        at_most=at_most,
        mask_id=tokenizer.mask_token_id,
        vocabulary_size=len(tokenizer),
    )
    return {**batch.inputs, "input_ids": masked_BL}, chosen_BL


def masked_logits(model, inputs, chosen_BL):
    """[M, V]: what a model with its pretraining head (load_model(kind="masked")) says of the chosen tokens,
    and of no others."""
    answer = architectures.encoder(model)(**inputs).last_hidden_state[chosen_BL]
    for name in architectures.of(model).vocabulary:
        answer = getattr(model, name)(answer)
    return answer


def scored_batches(split, *, number, batch_size, seed) -> list:
    """[(number of the batch, indices)]: a fixed sample of so many blocks in batches."""
    return [*enumerate(split.epoch(seed, 0, batch_size)[: -(-number // batch_size)])]


def batch_loss(model, batch, tokenizer, *, seeds):
    """(mean cross-entropy of the masked tokens in nats, their number); which ones is a function of the seeds,
    whole numbers."""
    with _drawing(seeds):
        inputs, chosen_BL = masked_inputs(batch, tokenizer, at_most=AT_MOST)
    number = int(chosen_BL.sum())
    logits_MV = masked_logits(model, inputs, chosen_BL)
    return masked_loss(logits_MV, batch.inputs["input_ids"][chosen_BL], divisor=max(number, 1)), number


@torch.no_grad()
def heldout_loss(model, heldout, tokenizer, *, batch_size, precision, device) -> float:
    """Mean cross-entropy in nats of masked tokens on blocks that are held out.

    Runs with the same batch_size mask the same tokens: which ones is a function of the batch's number.
    """
    total = torch.zeros(2, dtype=torch.float64, device=device)
    for (number, indices), own in share([*enumerate(heldout.in_order(batch_size))]):
        with autocast(device, precision):
            loss, count = batch_loss(model, heldout.collate(indices).to(device), tokenizer, seeds=(0, number))
        total += own * torch.tensor([float(loss) * count, count], dtype=torch.float64, device=device)
    loss, count = distributed.all_reduce(total).tolist()
    return loss / count


@contextlib.contextmanager
def _drawing(seeds):
    """A context in which torch's random numbers are a function of some whole numbers; afterwards they go on
    as before."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1))
        yield
