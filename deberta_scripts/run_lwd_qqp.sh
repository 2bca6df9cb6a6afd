#!/usr/bin/env bash
# QQP: distil DeBERTaV3-base into DeBERTaV3-xsmall; all of the teacher's hidden states (LWD).
#   bash deberta_scripts/run_lwd_qqp.sh       # after run_finetuning_qqp.sh
# Published start. The start of TED: STUDENT=outputs/deberta/qqp/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev F1 89.0
# time    not measured; 5,000 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/qqp/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/qqp/lwd}
${LAUNCH:-python} run_ted.py --mode lwd --task_name qqp --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 20 \
    --max_length 256 --selection_metric f1 --per_device_train_batch_size 64 --learning_rate 6e-5 \
    --warmup_proportion 0.1099 --num_train_epochs 8 --num_patience_epochs 8 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
