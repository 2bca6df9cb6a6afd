"""Hugging Face encoders with the methods' parts fitted.  Importing it makes the Auto classes know its models.

What every method uses
    architectures: where things are in a model.  loading, saving: checkpoints.  from_tensors: models filled
    with others' tensors. derived_classes: those of changed structures.  students: made from teachers,
    measured.
    distillation: one student, one teacher.
Fewer heads, neurons, dimensions, layers
    slicing: nested models and the classes of cropped ones.  attention: stock attention with heads missing.
    widths: hidden dimensions.  sparse_bert: cropping, dense export, fewer layers, sorting.  importance_masks:
    what units are scored by. sorting_loss: the loss behind them.  sparsity_curve: what each sparsity is
    worth.
    initial_student: the state in which several trainings begin.
Relations
    relation_encoder: encoders that answer with queries, keys and values.  resized: students of other sizes.
    relation_objective: their loss, beside masked tokens' and on what is held out.  relation_distillation:
    hops.
    once_for_all: students with parts.  masked_tokens: which ones, and their loss.
Experts
    moe_bert: models with experts.  balance: their loss.
Filters
    filtered_bert: TED's.
Evaluation
    measuring: what it lists.  exporting: models for other software.
"""

from models import moe_bert, slicing
from models.architectures import blocks, encoder, layers
from models.balance import Balance
from models.distillation import distil, objective_for, teacher_targets
from models.filtered_bert import (
    FilteredModel,
    FrozenStates,
    head_metrics,
    load_filters,
    new_filters,
    save_filters,
)
from models.importance_masks import scoring_masks
from models.initial_student import initial_student_folder, save_initial_student
from models.loading import freeze, load_model, loader
from models.saving import save_model, saver
from models.slicing import grid, kept, set_sparsity, sparsity
from models.sparse_bert import crop, export_dense, keep_layers, sort_units
from models.sparsity_curve import task_curve
from models.students import describe, shrink, small_bert, with_dropout
from utils.checkpoints import fingerprint

__all__ = [
    "Balance",
    "FilteredModel",
    "FrozenStates",
    "blocks",
    "crop",
    "describe",
    "distil",
    "encoder",
    "export_dense",
    "fingerprint",
    "freeze",
    "grid",
    "head_metrics",
    "initial_student_folder",
    "keep_layers",
    "kept",
    "layers",
    "load_filters",
    "load_model",
    "loader",
    "new_filters",
    "objective_for",
    "save_filters",
    "save_initial_student",
    "save_model",
    "saver",
    "scoring_masks",
    "set_sparsity",
    "shrink",
    "small_bert",
    "sort_units",
    "sparsity",
    "task_curve",
    "teacher_targets",
    "with_dropout",
]

for classes in (slicing.CLASSES, moe_bert.CLASSES):
    classes.register()
