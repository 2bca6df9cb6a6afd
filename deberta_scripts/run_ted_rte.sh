#!/usr/bin/env bash
# RTE: distil DeBERTaV3-base into DeBERTaV3-xsmall; stage II of TED, through filters.
#   bash deberta_scripts/run_ted_rte.sh       # after run_learn_filters_rte.sh, SIZE=base and xsmall
# expect  not measured; published dev accuracy 83.0
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/rte/base_filters}
STUDENT=${STUDENT:-outputs/deberta/rte/xsmall_filters}
INIT=${INIT:-stage1}                       # finetuned, pretrained: new filters
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/rte/ted}
${LAUNCH:-python} run_ted.py --mode ted --task_name rte --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 50 \
    --max_length 256 --per_device_train_batch_size 16 --learning_rate 6e-5 \
    --warmup_proportion 0 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --cls_dropout 0 --hidn_dropout 0 --att_dropout 0 --seed "${SEED:-42}" "$@"
