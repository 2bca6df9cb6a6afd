#!/usr/bin/env bash
# QQP, stage 0 of TED: fine-tune the teacher (SIZE=base) and the student (SIZE=xsmall).
#   python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base     # first, and for xsmall
#   SIZE=xsmall bash deberta_scripts/run_finetuning_qqp.sh --learning_rate 5e-5     # any flag given by hand wins
# expect  not measured; published dev F1 89.9 (base), 88.9 (xsmall)
# time    not measured; 5,000 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/pretrained/$SIZE}   # made by get_model.py; or a hub name with safetensors
DATA_DIR=${DATA_DIR:-datasets}              # the parent of qqp/
OUTPUT=${OUTPUT:-outputs/deberta/qqp/$SIZE}
if [ "$SIZE" = base ]; then rate=2e-5 warmup=0.1099; else rate=6e-5 warmup=0.1099; fi
${LAUNCH:-python} run_finetuning.py --task_name qqp --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --max_length 256 --selection_metric f1 --per_device_train_batch_size 64 --learning_rate "$rate" \
    --warmup_proportion "$warmup" --num_train_epochs 8 --num_patience_epochs 8 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
