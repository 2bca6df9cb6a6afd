#!/usr/bin/env bash
# SST-2, stage 0 of TED: fine-tune the teacher (SIZE=base) and the student (SIZE=xsmall).
#   python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base     # first, and for xsmall
#   SIZE=xsmall bash deberta_scripts/run_finetuning_sst2.sh --learning_rate 5e-5     # any flag given by hand wins
# expect  not measured; published dev accuracy 96.4 (base), 93.6 (xsmall)
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/pretrained/$SIZE}   # made by get_model.py; or a hub name with safetensors
DATA_DIR=${DATA_DIR:-datasets}              # the parent of sst2/
OUTPUT=${OUTPUT:-outputs/deberta/sst2/$SIZE}
if [ "$SIZE" = base ]; then rate=2e-5; else rate=4e-5; fi
${LAUNCH:-python} run_finetuning.py --task_name sst2 --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --max_length 256 --per_device_train_batch_size 32 --learning_rate "$rate" \
    --warmup_proportion 0 --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
