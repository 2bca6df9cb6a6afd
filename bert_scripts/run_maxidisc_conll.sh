#!/usr/bin/env bash
# MaxiDisc on CoNLL-2003: distil to 90% sparsity through a given assistant.
#   HOPS=70,90S bash bert_scripts/run_maxidisc_conll.sh                   # after run_sparsification_conll.sh
# batch, rate, epochs and evaluation interval: MiniDisc's scripts
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/conll}
HOPS=${HOPS:-80,90S}                       # the assistants and the student: 80,90S or 6,4L or 80S,6L
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/maxidisc/conll_${HOPS//,/-}}
${LAUNCH:-python} run_maxidisc.py --task_name conll --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_ner --layer_or_sparsity_path "$HOPS" \
    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 10 --eval_interval 100 --seed "${SEED:-776}" "$@"
