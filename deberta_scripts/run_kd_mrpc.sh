#!/usr/bin/env bash
# MRPC: distil DeBERTaV3-base into DeBERTaV3-xsmall; the divergence from the teacher's answers alone (KD).
#   bash deberta_scripts/run_kd_mrpc.sh       # after run_finetuning_mrpc.sh
# Published start. The start of TED: STUDENT=outputs/deberta/mrpc/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev F1 93.6
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/mrpc/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/mrpc/kd}
${LAUNCH:-python} run_ted.py --mode kd --task_name mrpc --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 \
    --max_length 256 --selection_metric f1 --per_device_train_batch_size 32 --learning_rate 7e-5 \
    --warmup_proportion 0 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
