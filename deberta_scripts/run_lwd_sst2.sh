#!/usr/bin/env bash
# SST-2: distil DeBERTaV3-base into DeBERTaV3-xsmall; all of the teacher's hidden states (LWD).
#   bash deberta_scripts/run_lwd_sst2.sh       # after run_finetuning_sst2.sh
# Published start. The start of TED: STUDENT=outputs/deberta/sst2/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev accuracy 94.3
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/sst2/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/sst2/lwd}
${LAUNCH:-python} run_ted.py --mode lwd --task_name sst2 --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 20 \
    --max_length 256 --per_device_train_batch_size 32 --learning_rate 4e-5 \
    --warmup_proportion 0 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
