#!/usr/bin/env bash
# STS-B: distil DeBERTaV3-base into DeBERTaV3-xsmall; all of the teacher's hidden states (LWD).
#   bash deberta_scripts/run_lwd_stsb.sh       # after run_finetuning_stsb.sh
# --kl_alpha 20 was published for a softmax over the batch: that is --regression_kl listwise; the default distils the scores.
# Published start. The start of TED: STUDENT=outputs/deberta/stsb/xsmall_filters INIT=stage1, after stage I.
# expect  not measured; published dev Spearman 90.6
# time    not measured; 100 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/deberta/stsb/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/stsb/lwd}
${LAUNCH:-python} run_ted.py --mode lwd --task_name stsb --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" --kl_alpha 20 --mse_alpha 5 \
    --max_length 128 --selection_metric spearman --per_device_train_batch_size 16 --learning_rate 1e-4 \
    --warmup_proportion 0.0463 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
