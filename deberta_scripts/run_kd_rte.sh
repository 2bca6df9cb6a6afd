#!/usr/bin/env bash
# RTE: distil DeBERTaV3-base into DeBERTaV3-xsmall; the divergence from the teacher's answers alone (KD).
#   bash deberta_scripts/run_kd_rte.sh       # after run_finetuning_rte.sh
# Published start. The start of TED: STUDENT=outputs/deberta/rte/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev accuracy 80.1
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/rte/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/rte/kd}
${LAUNCH:-python} run_ted.py --mode kd --task_name rte --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 \
    --max_length 256 --per_device_train_batch_size 16 --learning_rate 6e-5 \
    --warmup_proportion 0 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --cls_dropout 0 --hidn_dropout 0 --att_dropout 0 --seed "${SEED:-42}" "$@"
