#!/usr/bin/env bash
# Distil the CoNLL-2003 teacher directly into a student with 10% of its heads and neurons.
#   STUDENT=95S bash bert_scripts/run_distillation_conll.sh                   # after run_sparsification_conll.sh
# batch, rate, epochs and evaluation interval: MiniDisc's scripts
# --cache_teacher costs some 3 GiB of main memory here (twice that in fp32): seven hidden states of each token
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/sparsification/conll}
STUDENT=${STUDENT:-90S}                    # 90S: drop 90% of heads and neurons; 4L: keep 4 layers
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/distillation/conll_$STUDENT}
${LAUNCH:-python} run_distillation.py --task_name conll --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --model_type sparsebert_ner --layer_or_sparsity "$STUDENT" \
    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 10 --eval_interval 100 --seed "${SEED:-776}" "$@"
