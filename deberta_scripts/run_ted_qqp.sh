#!/usr/bin/env bash
# QQP: distil DeBERTaV3-base into DeBERTaV3-xsmall; stage II of TED, through filters.
#   bash deberta_scripts/run_ted_qqp.sh       # after run_learn_filters_qqp.sh, SIZE=base and xsmall
# expect  not measured; published dev F1 89.5
# time    not measured; 5,000 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/qqp/base_filters}
STUDENT=${STUDENT:-outputs/deberta/qqp/xsmall_filters}
INIT=${INIT:-stage1}                       # finetuned, pretrained: new filters
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/qqp/ted}
${LAUNCH:-python} run_ted.py --mode ted --task_name qqp --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 1000 \
    --max_length 256 --selection_metric f1 --per_device_train_batch_size 64 --learning_rate 6e-5 \
    --warmup_proportion 0.1099 --num_train_epochs 8 --num_patience_epochs 8 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
