"""The command line: parser and types, shared groups, what can be wrong with them; one file for each family of
scripts.

Nothing here imports torch, so that `--help` answers at once.  Nothing in models/, data/ or modules/ imports
it.
parser: the parser, types, resolved settings.
paths: flags that name files and folders.
own_task: a task of the user's own.
groups, teachers: flags that several scripts share; those of stages that distil.
checks: what can be wrong with them.
model_types: the papers' --model_type, and what follows from it.
corpus: text corpora.
relations, hops: relation distillation, and the sizes that follow.
experts: students with experts.
parts: crops and once-for-all students.
assistants: run_maxidisc.py, run_minidisc.py.
sparsification, stark, ted, vocabulary, evaluation: the scripts of these names.
"""

from utils.flags.checks import (
    check_balance,
    check_config,
    check_hold_out,
    check_one_part,
    check_student,
    student_parts,
    whole_for,
)
from utils.flags.groups import (
    DRY_RUN_ROWS,
    DRY_RUN_UPDATES,
    OF_ANSWERS,
    SPANS,
    class_weights,
    data_options,
    folder,
    how_loaded,
    how_trained,
    inference,
    model_path,
    runtime,
    scoring,
    task,
    training,
)
from utils.flags.parser import (
    idle,
    layer_or_sparsity,
    parser,
    positive_int,
    resolve,
    settings,
    with_flag_name,
)
from utils.flags.teachers import balance, distillation, student, unlabelled

from utils.flags import (  # isort: skip
    assistants,
    corpus,
    evaluation,
    experts,
    hops,
    model_types,
    parts,
    relations,
    sparsification,
    stark,
    ted,
    vocabulary,
)
