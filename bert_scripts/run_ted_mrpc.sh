#!/usr/bin/env bash
# TED on MRPC, stage II: distil through filters. All three start from the student of stage I.
# The weights are those published for DeBERTaV3; none are for BERT.
#   SEED=1 bash bert_scripts/run_ted_mrpc.sh                              # after run_ted_filters_mrpc.sh for both sides
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/ted/mrpc_filters_teacher}
STUDENT=${STUDENT:-outputs/ted/mrpc_filters_student}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/ted/mrpc_ted}
${LAUNCH:-python} run_ted.py --mode ted --task_name mrpc --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init stage1 --kl_alpha 20 --mse_alpha 100 \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 10 --seed "${SEED:-776}" "$@"
