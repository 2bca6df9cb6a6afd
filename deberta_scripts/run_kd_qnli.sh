#!/usr/bin/env bash
# QNLI: distil DeBERTaV3-base into DeBERTaV3-xsmall; the divergence from the teacher's answers alone (KD).
#   bash deberta_scripts/run_kd_qnli.sh       # after run_finetuning_qnli.sh
# Published start. The start of TED: STUDENT=outputs/deberta/qnli/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev accuracy 92.8
# time    not measured; 500 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/qnli/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/qnli/kd}
${LAUNCH:-python} run_ted.py --mode kd --task_name qnli --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 \
    --max_length 256 --per_device_train_batch_size 32 --learning_rate 5e-5 \
    --warmup_proportion 0.0509 --num_train_epochs 3 --num_patience_epochs 3 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
