"""What a teacher's heads and neurons do for the task and for one particular student, on rows of a task.

Source: StarK (Yang et al. 2022); the scores are joined by modules/knowledge.py.
"""

import torch

from models.importance_masks import scoring_masks
from modules import importance, knowledge, losses
from utils import distributed, evaluation


def knowledge_scores(
    teacher, student, split, *, friendliness_loss, signed, temperature, batch_size, seed, device
):
    """(expressiveness, friendliness) of all units as importance.Accumulators: one forward of the teacher, two
    gradients.

    student: of the trial, frozen as the teacher is.  split: rows to score, in batches of batch_size.
    friendliness_loss, temperature: see knowledge.friendliness_loss.  signed: the friendliness, see
    Accumulator.
    """
    kind = split.task.kind
    with scoring_masks(teacher) as masks:
        express, friendly = importance.Accumulator(masks), importance.Accumulator(masks, signed=signed)
        for indices, own in evaluation.share(split.epoch(seed, 0, batch_size)):
            batch = split.collate(indices).to(device)
            with torch.no_grad():
                student_logits = batch.through(student).logits
            logits = batch.through(teacher).logits
            soft = knowledge.friendliness_loss(
                student_logits,
                logits,
                kind=kind,
                loss=friendliness_loss,
                temperature=temperature,
                mask=losses.scored_tokens(batch.labels, batch.mask, kind=kind),
            )
            weight = batch.per_label(kind) * own
            task_loss = losses.task_loss(logits, batch.labels, kind=kind, mask=batch.mask)
            express.add(task_loss, weight=weight, retain_graph=True)
            friendly.add(soft, weight=weight)
        express.reduce(distributed.all_reduce)
        friendly.reduce(distributed.all_reduce)
    return express, friendly
