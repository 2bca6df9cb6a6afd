#!/usr/bin/env bash
# SST-2: distil DeBERTaV3-base into DeBERTaV3-xsmall; stage II of TED, through filters.
#   bash deberta_scripts/run_ted_sst2.sh       # after run_learn_filters_sst2.sh, SIZE=base and xsmall
# expect  not measured; published dev accuracy 94.4
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/sst2/base_filters}
STUDENT=${STUDENT:-outputs/deberta/sst2/xsmall_filters}
INIT=${INIT:-stage1}                       # finetuned, pretrained: new filters
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/sst2/ted}
${LAUNCH:-python} run_ted.py --mode ted --task_name sst2 --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 20 \
    --max_length 256 --per_device_train_batch_size 32 --learning_rate 4e-5 \
    --warmup_proportion 0 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
