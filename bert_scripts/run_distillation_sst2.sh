#!/usr/bin/env bash
# Distil the SST-2 teacher directly into a student with 10% of its heads and neurons.
#   STUDENT=95S bash bert_scripts/run_distillation_sst2.sh                    # after run_sparsification_sst2.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/sst2}
STUDENT=${STUDENT:-90S}                    # 90S: drop 90% of heads and neurons; 4L: keep 4 layers
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/distillation/sst2_$STUDENT}
${LAUNCH:-python} run_distillation.py --task_name sst2 --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_cls --layer_or_sparsity "$STUDENT" --cache_teacher \
    --per_device_train_batch_size 16 --learning_rate 1e-5 --num_train_epochs 10 --eval_interval 0 --seed "${SEED:-776}" "$@"
