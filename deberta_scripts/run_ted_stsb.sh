#!/usr/bin/env bash
# STS-B: distil DeBERTaV3-base into DeBERTaV3-xsmall; stage II of TED, through filters.
#   bash deberta_scripts/run_ted_stsb.sh       # after run_learn_filters_stsb.sh, SIZE=base and xsmall
# --kl_alpha 20 was published for a softmax over the batch: that is --regression_kl listwise; the default distils the scores.
# expect  not measured; published dev Spearman 91.1
# time    not measured; 100 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/stsb/base_filters}
STUDENT=${STUDENT:-outputs/deberta/stsb/xsmall_filters}
INIT=${INIT:-stage1}                       # finetuned, pretrained: new filters
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/stsb/ted}
${LAUNCH:-python} run_ted.py --mode ted --task_name stsb --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 50 \
    --max_length 128 --selection_metric spearman --per_device_train_batch_size 16 --learning_rate 1e-4 \
    --warmup_proportion 0.0463 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
