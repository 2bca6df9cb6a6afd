"""The command line: parser and types, shared groups, what can be wrong with them; one file for each family of
scripts.

Nothing here imports torch, so that `--help` answers at once.  Nothing in models/, data/ or modules/ imports
it.
parser: the parser, types, resolved settings.  groups: flags that several scripts share.  checks: of these.
model_types: the papers' --model_type.  corpus: text corpora.  relations: relation distillation.  experts:
students with experts.  parts: crops and once-for-all students.  sparsification: run_sparsification.py's.
ted: filters, TED and its baselines.  evaluation: run_evaluation.py's.
"""

from utils.flags.checks import (
    check_balance,
    check_candidates,
    check_dense,
    check_hold_out,
    check_path,
    check_spans,
    check_student,
    config,
    student_parts,
)
from utils.flags.groups import (
    DRY_RUN_ROWS,
    DRY_RUN_UPDATES,
    OF_ANSWERS,
    SPANS,
    balance,
    data_options,
    distillation,
    dropouts,
    folder,
    held_out,
    inference,
    model_path,
    runtime,
    scoring,
    spans,
    student,
    task,
    training,
)
from utils.flags.parser import (
    candidates,
    count,
    fraction,
    idle,
    layer_or_sparsity,
    named,
    non_negative,
    parser,
    path_of_students,
    percent,
    percentages,
    positive,
    positive_int,
    rates,
    resolve,
    settings,
    switch,
    weight,
)

from utils.flags import corpus, evaluation, experts, hops, model_types, parts, relations, sparsification, ted  # isort: skip
