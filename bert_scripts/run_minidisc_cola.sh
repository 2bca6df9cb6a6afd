#!/usr/bin/env bash
# MiniDisc on CoLA: distil to 90% sparsity with one assistant, chosen on the way.
#   SEED=1 bash bert_scripts/run_minidisc_cola.sh --lam 0.3                   # after run_sparsification_cola.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/cola}
TARGET=${TARGET:-90}                       # sparsity of the student in percent
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/minidisc/cola_${TARGET}S}
${LAUNCH:-python} run_minidisc.py --task_name cola --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_cls --target_sparsity "$TARGET" --lam 0.2 --cache_teacher \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 0 --seed "${SEED:-776}" "$@"
