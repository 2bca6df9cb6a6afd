#!/usr/bin/env bash
# SQuAD 2.0: distil DeBERTaV3-base into DeBERTaV3-xsmall; stage II of TED, through filters.
#   bash deberta_scripts/run_ted_squad2.sh       # after run_learn_filters_squad2.sh, SIZE=base and xsmall
# expect  not measured; published dev F1 86.4
# time    not measured; published TED about 14 hours on a V100
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/squad2/base_filters}
STUDENT=${STUDENT:-outputs/deberta/squad2/xsmall_filters}
INIT=${INIT:-stage1}                       # finetuned, pretrained: new filters
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/squad2/ted}
${LAUNCH:-python} run_ted.py --mode ted --task_name squad2 --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 10 --mse_alpha 5000 \
    --max_length 384 --doc_stride 128 --per_device_train_batch_size 8 --learning_rate 5e-5 \
    --warmup_proportion 0 --num_train_epochs 3 --num_patience_epochs 3 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
