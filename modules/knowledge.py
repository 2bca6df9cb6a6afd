"""Knowledgeableness of a teacher's heads and neurons: what they do for the task and for one particular
student.

Source: StarK (Yang et al. 2022), sparsification of the teacher.  L layers, U units in a layer (heads or
neurons).
"""

from modules import losses
from modules.importance import normalise


def friendliness_loss(student_logits, teacher_logits, *, kind, loss="soft_ce", temperature=1.0, mask=None):
    """The part of the distillation loss that the teacher has a say in; its gradient goes to the teacher.

    loss "soft_ce", as published: losses.soft_label.  With p and q the softmax of teacher and student at
        temperature T, its gradient to the teacher's logits is -T p (log q - sum_c p_c log q_c), which does
        not vanish where the two agree.
    loss "kl": the teacher's own entropy subtracted; T p (log(p / q) - KL(p || q)), which does.
    Regression: the squared difference, for both.  kind, logits, mask: as in losses.soft_label.  Returns a
    scalar.

    Of the whole loss, (soft_label + task) / 2, the task's half does not depend on the teacher, and factors
    cancel when the scores are normalised.
    """
    options = {"kind": kind, "temperature": temperature, "mask": mask}
    total = losses.soft_label(student_logits, teacher_logits, **options)
    if loss == "kl":
        total = total - losses.soft_label(teacher_logits, teacher_logits, **options)
    return total


def knowledgeableness(expressiveness_LU, friendliness_LU, *, lam):
    """K = lam E~ + (1 - lam) S~, both normalised in each layer; K is not normalised again.

    expressiveness_LU: sums of |d task loss / d mask|.  friendliness_LU: sums of |d friendliness loss / d
    mask|, or of - d friendliness loss / d mask.  lam: from 0 to 1.
    The published code adds 1e-7 to the norms, importance.normalise 1e-17: only where a layer's sums are
    smaller than some 1e-5 could that be told, and there the smaller one keeps K independent of the scale of
    the losses.
    """
    return lam * normalise(expressiveness_LU) + (1 - lam) * normalise(friendliness_LU)
