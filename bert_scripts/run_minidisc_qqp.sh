#!/usr/bin/env bash
# MiniDisc on QQP: distil to 90% sparsity with one assistant, chosen on the way.
#   SEED=1 bash bert_scripts/run_minidisc_qqp.sh --lam 0.3                   # after run_sparsification_qqp.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/qqp}
TARGET=${TARGET:-90}                       # sparsity of the student in percent
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/minidisc/qqp_${TARGET}S}
${LAUNCH:-python} run_minidisc.py --task_name qqp --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_cls --target_sparsity "$TARGET" --lam 0.2 \
    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 10 --eval_interval 3000 --seed "${SEED:-776}" "$@"
