#!/usr/bin/env bash
# QNLI: distil DeBERTaV3-base into DeBERTaV3-xsmall; stage II of TED, through filters.
#   bash deberta_scripts/run_ted_qnli.sh       # after run_learn_filters_qnli.sh, SIZE=base and xsmall
# expect  not measured; published dev accuracy 93.1
# time    not measured; 500 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/qnli/base_filters}
STUDENT=${STUDENT:-outputs/deberta/qnli/xsmall_filters}
INIT=${INIT:-stage1}                       # finetuned, pretrained: new filters
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/qnli/ted}
${LAUNCH:-python} run_ted.py --mode ted --task_name qnli --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 100 \
    --max_length 256 --per_device_train_batch_size 32 --learning_rate 5e-5 \
    --warmup_proportion 0.0509 --num_train_epochs 3 --num_patience_epochs 3 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
