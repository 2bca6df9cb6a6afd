#!/usr/bin/env bash
# MiniDisc on CoNLL-2003: distil to 90% sparsity with one assistant, chosen on the way.
#   SEED=1 bash bert_scripts/run_minidisc_conll.sh --lam 0.3                  # after run_sparsification_conll.sh
# batch, rate, epochs and evaluation interval: MiniDisc's scripts
# --cache_teacher costs some 3 GiB of main memory here (twice that in fp32): seven hidden states of each token
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/conll}
TARGET=${TARGET:-90}                       # sparsity of the student in percent
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/minidisc/conll_${TARGET}S}
${LAUNCH:-python} run_minidisc.py --task_name conll --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_ner --target_sparsity "$TARGET" --lam 0.2 \
    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 10 --eval_interval 100 --seed "${SEED:-776}" "$@"
