#!/usr/bin/env bash
# TED on MRPC, stage 0 of the student: 6 layers of the teacher, fine-tuned on.
#   LAYERS=4 bash bert_scripts/run_ted_ft_mrpc.sh                            # after run_finetuning_mrpc.sh
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/finetuning/mrpc}
LAYERS=${LAYERS:-6}                        # evenly spaced
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/ted/mrpc_ft}
${LAUNCH:-python} run_ted.py --mode ft --task_name mrpc --data_dir "$DATA_DIR" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_layer "$LAYERS" --layer_choice even \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 10 --seed "${SEED:-776}" "$@"
