#!/usr/bin/env bash
# SQuAD 2.0: distil DeBERTaV3-base into DeBERTaV3-xsmall; the divergence from the teacher's answers alone (KD).
#   bash deberta_scripts/run_kd_squad2.sh       # after run_finetuning_squad2.sh
# Published start. The start of TED: STUDENT=outputs/deberta/squad2/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev F1 85.7
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/squad2/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/squad2/kd}
${LAUNCH:-python} run_ted.py --mode kd --task_name squad2 --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 10 \
    --max_length 384 --doc_stride 128 --per_device_train_batch_size 8 --learning_rate 5e-5 \
    --warmup_proportion 0 --num_train_epochs 3 --num_patience_epochs 3 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
