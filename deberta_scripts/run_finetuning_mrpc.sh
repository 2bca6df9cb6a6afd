#!/usr/bin/env bash
# MRPC, stage 0 of TED: fine-tune the teacher (SIZE=base) and the student (SIZE=xsmall).
#   python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base     # first, and for xsmall
#   SIZE=xsmall bash deberta_scripts/run_finetuning_mrpc.sh --learning_rate 5e-5     # any flag given by hand wins
# expect  not measured; published dev F1 93.5 (base), 93.0 (xsmall)
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/pretrained/$SIZE}   # made by get_model.py; or a hub name with safetensors
DATA_DIR=${DATA_DIR:-datasets}              # the parent of mrpc/
OUTPUT=${OUTPUT:-outputs/deberta/mrpc/$SIZE}
if [ "$SIZE" = base ]; then rate=3e-5; else rate=7e-5; fi
${LAUNCH:-python} run_finetuning.py --task_name mrpc --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --max_length 256 --selection_metric f1 --per_device_train_batch_size 32 --learning_rate "$rate" \
    --warmup_proportion 0 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
