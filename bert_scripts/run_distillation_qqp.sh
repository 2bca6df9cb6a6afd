#!/usr/bin/env bash
# Distil the QQP teacher directly into a student with 10% of its heads and neurons.
#   STUDENT=95S bash bert_scripts/run_distillation_qqp.sh                    # after run_sparsification_qqp.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/qqp}
STUDENT=${STUDENT:-90S}                    # 90S: drop 90% of heads and neurons; 4L: keep 4 layers
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/distillation/qqp_$STUDENT}
${LAUNCH:-python} run_distillation.py --task_name qqp --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_cls --layer_or_sparsity "$STUDENT" \
    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 10 --eval_interval 3000 --seed "${SEED:-776}" "$@"
