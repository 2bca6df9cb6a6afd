"""Hugging Face encoders with the methods' parts fitted.  Importing it makes the Auto classes know its models.

What every method uses:
architectures: where things are in a model, by its family's row in utils/families.py.
loading, saving: checkpoints.  checkpoint_files: what lies in their folders.  heads: a head beside what the
task needs.
from_tensors: models that are built without values and filled with others' tensors.
sharding: models of which each process holds a part.
derived_classes: classes of changed structures, made from the stock ones.
enct5: heads for T5's encoder.
students: made from teachers or from nothing, with other dropout, described.
gradient_checkpointing: layers that are computed once more in the backward.
vocabulary: checkpoints with fewer pieces and positions.
distillation: one student, one teacher.

Fewer heads, neurons, hidden dimensions, layers:
slicing: nested models, computing with a part of their units; the classes of cropped ones.
attention: stock attention with heads missing, some or all.
hidden_dimensions: one order of them in the whole model, sorted and cropped.
sparse_bert: sorting; cropping; fewer layers; dense again.
importance_masks: what units are scored by.
knowledge_scores: StarK's scores of units.
sorting_loss: the loss behind the scores, a task's or that of masked tokens.
sparsity_curve: what a nested model is worth at each sparsity.
initial_student: the state in which several trainings of a run begin.

Relations, experts, filters:
relation_encoder: encoders that answer with queries, keys and values of one layer.
relation_objective: their loss, also on blocks that are held out.
relation_distillation: hops, each from a teacher to a student.
resized: students of other sizes than their teacher's.
once_for_all: one student and its parts.
masked_tokens: which tokens are masked, and the loss of a pretraining head.
moe_bert: models with experts.
balance: the loss that shares the work among experts.
filtered_bert: TED's filters beside a stock model.
filter_learning: TED's stage I.
layerwise_distillation: TED's stage II, and LWD: states that are held against the teacher's.

Evaluation:
measuring: size, metrics and times of one model.
exporting: models for other software.
standalone: the code file that a small model takes along; standalone_parts: what it is made of.
"""

from models import enct5, moe_bert, slicing
from models.architectures import encoder, layer_modules, layers
from models.balance import Balance
from models.distillation import distil, objective_for, teacher_targets
from models.filtered_bert import FilteredModel, FrozenStates, load_filters, new_filters, save_filters
from models.from_tensors import frozen_in, share_out
from models.importance_masks import scoring_masks
from models.initial_student import initial_student_folder, save_initial_student
from models.loading import freeze, load_model, loader
from models.saving import save_anew, save_model, saver
from models.slicing import grid, kept, set_sparsity, sparsity
from models.sparse_bert import crop, export_dense, keep_layers, sort_units
from models.sparsity_curve import task_curve
from models.students import describe, for_training, shrink, small_bert, with_dropout

__all__ = [
    "Balance",
    "FilteredModel",
    "FrozenStates",
    "crop",
    "describe",
    "distil",
    "encoder",
    "export_dense",
    "for_training",
    "freeze",
    "frozen_in",
    "grid",
    "initial_student_folder",
    "keep_layers",
    "kept",
    "layer_modules",
    "layers",
    "load_filters",
    "load_model",
    "loader",
    "new_filters",
    "objective_for",
    "save_anew",
    "save_filters",
    "save_initial_student",
    "save_model",
    "saver",
    "scoring_masks",
    "set_sparsity",
    "share_out",
    "shrink",
    "small_bert",
    "sort_units",
    "sparsity",
    "task_curve",
    "teacher_targets",
    "with_dropout",
]

for classes in (enct5, slicing.CLASSES, moe_bert.CLASSES):
    classes.register()
