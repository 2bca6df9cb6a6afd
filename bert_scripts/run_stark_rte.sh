#!/usr/bin/env bash
# StarK on RTE: sort the teacher's heads and neurons by what they do for the task and for its student; nothing is trained.
#   bash bert_scripts/run_stark_rte.sh --friendliness_sign signed                # after run_stark_trial_rte.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/finetuning/rte}
STUDENT=${STUDENT:-70S}                    # of the trial: 70S or 4L
TRIAL=${TRIAL:-outputs/distillation/rte_trial_$STUDENT}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/stark/rte_$STUDENT}
${LAUNCH:-python} run_stark.py --task_name rte --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --student_model_path "$TRIAL" --model_type kd --temperature 2 --lam 0.5 --scoring_batch_size 32 --seed "${SEED:-776}" "$@"
