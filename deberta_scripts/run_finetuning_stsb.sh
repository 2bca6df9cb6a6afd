#!/usr/bin/env bash
# STS-B, stage 0 of TED: fine-tune the teacher (SIZE=base) and the student (SIZE=xsmall).
#   python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base     # first, and for xsmall
#   SIZE=xsmall bash deberta_scripts/run_finetuning_stsb.sh --learning_rate 5e-5     # any flag given by hand wins
# expect  not measured; published dev Spearman 91.5 (base), 90.4 (xsmall)
# time    not measured; 100 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/pretrained/$SIZE}   # made by get_model.py; or a hub name with safetensors
DATA_DIR=${DATA_DIR:-datasets}              # the parent of stsb/
OUTPUT=${OUTPUT:-outputs/deberta/stsb/$SIZE}
if [ "$SIZE" = base ]; then rate=2e-5 warmup=0.0463; else rate=1e-4 warmup=0.0463; fi
${LAUNCH:-python} run_finetuning.py --task_name stsb --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --max_length 128 --selection_metric spearman --per_device_train_batch_size 16 --learning_rate "$rate" \
    --warmup_proportion "$warmup" --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
