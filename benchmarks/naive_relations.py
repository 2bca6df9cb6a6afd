"""Relation distillation as earlier code bases wrote it: what ours is measured against.  Imports nothing of
this project.

loss_of_projections: softmax of all heads at once, rows of real tokens picked out by a mask,
    log(p + epsilon), autograd.
loss_of_models: both models to their end with all hidden states and attention maps; queries, keys and values
    projected once more from a hidden state; relations of all heads at once; a loop over examples, lengths
    read back.
B examples, L tokens, D width, R relation heads.
"""

import math

import torch
import torch.nn.functional as F

EPSILON = 1e-7
_KINDS = ("query", "key", "value")


def loss_of_projections(student, teacher, mask_BL, *, num_heads):
    """Mean over tokens, heads and the three relations.  student, teacher: lists of queries, keys and values,
    [B, L, D]."""
    loss = 0.0
    for student_BLD, teacher_BLD in zip(student, teacher):
        with torch.no_grad():
            teacher_BRLL = _relations(teacher_BLD, mask_BL, num_heads).softmax(-1)
        student_BRLL = _relations(student_BLD, mask_BL, num_heads).softmax(-1)
        real_BRLL = mask_BL[:, None, :, None].expand_as(student_BRLL)
        ours, theirs = student_BRLL.masked_select(real_BRLL), teacher_BRLL.masked_select(real_BRLL)
        divergence = theirs * ((theirs + EPSILON).log() - (ours + EPSILON).log())
        loss = loss + divergence.sum() / (num_heads * mask_BL.sum())
    return loss / len(student)


def loss_of_models(student, teacher, inputs, *, student_layer, teacher_layer, num_heads):
    """The sum over relations of means over examples.  student, teacher: BertModel with eager attention.
    Layers: from 1."""
    with torch.no_grad():
        target = teacher(**inputs, output_hidden_states=True, output_attentions=True)
    output = student(**inputs, output_hidden_states=True, output_attentions=True)
    loss = 0.0
    for kind in _KINDS:
        relations = []
        for model, states, layer in ((student, output, student_layer), (teacher, target, teacher_layer)):
            projection = getattr(model.encoder.layer[layer - 1].attention.self, kind)
            with torch.set_grad_enabled(model is student):
                projected_BLD = projection(states.hidden_states[layer - 1])
                relations.append(
                    _heads(projected_BLD, num_heads) @ _heads(projected_BLD, num_heads).transpose(2, 3)
                )
        for index in range(len(inputs["input_ids"])):
            length = int(inputs["attention_mask"][index].sum().item())
            ours, theirs = (
                relation[index, :, :length, :length] / math.sqrt(width // num_heads)
                for relation, width in zip(
                    relations, (student.config.hidden_size, teacher.config.hidden_size)
                )
            )
            divergence = F.kl_div(ours.log_softmax(-1), theirs.softmax(-1), reduction="sum") / (
                num_heads * length
            )
            loss = loss + divergence / len(inputs["input_ids"])
    return loss


def _heads(projected_BLD, num_heads):
    return projected_BLD.view(*projected_BLD.shape[:2], num_heads, -1).transpose(1, 2)


def _relations(projected_BLD, mask_BL, num_heads):
    heads_BRLK = _heads(projected_BLD, num_heads)
    scores_BRLL = heads_BRLK @ heads_BRLK.transpose(2, 3) / math.sqrt(heads_BRLK.shape[-1])
    return scores_BRLL + (1 - mask_BL[:, None, None, :].float()) * -10000
