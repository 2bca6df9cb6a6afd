#!/usr/bin/env bash
# MaxiDisc on MRPC: distil to 90% sparsity through a given assistant.
#   HOPS=70,90S bash bert_scripts/run_maxidisc_mrpc.sh                    # after run_sparsification_mrpc.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/mrpc}
HOPS=${HOPS:-80,90S}                       # the assistants and the student: 80,90S or 6,4L or 80S,6L
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/maxidisc/mrpc_${HOPS//,/-}}
${LAUNCH:-python} run_maxidisc.py --task_name mrpc --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_cls --layer_or_sparsity_path "$HOPS" --cache_teacher \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 10 --seed "${SEED:-776}" "$@"
