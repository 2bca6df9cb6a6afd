#!/usr/bin/env bash
# MNLI: distil DeBERTaV3-base into DeBERTaV3-xsmall; all of the teacher's hidden states (LWD).
#   bash deberta_scripts/run_lwd_mnli.sh       # after run_finetuning_mnli.sh
# Published start. The start of TED: STUDENT=outputs/deberta/mnli/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev accuracy 88.4
# time    not measured; 1,500 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/mnli/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/mnli/lwd}
${LAUNCH:-python} run_ted.py --mode lwd --task_name mnli --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 5 --mse_alpha 100 \
    --max_length 256 --per_device_train_batch_size 64 --learning_rate 7e-5 \
    --warmup_proportion 0.0815 --num_train_epochs 3 --num_patience_epochs 3 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
