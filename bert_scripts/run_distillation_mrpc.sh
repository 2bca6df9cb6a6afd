#!/usr/bin/env bash
# Distil the MRPC teacher directly into a student with 10% of its heads and neurons.
#   STUDENT=95S bash bert_scripts/run_distillation_mrpc.sh                    # after run_sparsification_mrpc.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/mrpc}
STUDENT=${STUDENT:-90S}                    # 90S: drop 90% of heads and neurons; 4L: keep 4 layers
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/distillation/mrpc_$STUDENT}
${LAUNCH:-python} run_distillation.py --task_name mrpc --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_cls --layer_or_sparsity "$STUDENT" --cache_teacher \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 10 --seed "${SEED:-776}" "$@"
