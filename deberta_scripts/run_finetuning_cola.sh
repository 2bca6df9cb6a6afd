#!/usr/bin/env bash
# CoLA, stage 0 of TED: fine-tune the teacher (SIZE=base) and the student (SIZE=xsmall).
#   python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base     # first, and for xsmall
#   SIZE=xsmall bash deberta_scripts/run_finetuning_cola.sh --learning_rate 5e-5     # any flag given by hand wins
# expect  not measured; published dev Matthews 68.4 (base), 66.0 (xsmall)
# time    not measured; 100 (base) and 0 (xsmall) updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/pretrained/$SIZE}   # made by get_model.py; or a hub name with safetensors
DATA_DIR=${DATA_DIR:-datasets}              # the parent of cola/
OUTPUT=${OUTPUT:-outputs/deberta/cola/$SIZE}
if [ "$SIZE" = base ]; then rate=2e-5 warmup=0.0622 dropout=; else rate=6e-5 warmup=0 dropout="--cls_dropout 0"; fi
${LAUNCH:-python} run_finetuning.py --task_name cola --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --max_length 256 --per_device_train_batch_size 32 --learning_rate "$rate" \
    --warmup_proportion "$warmup" --num_train_epochs 6 --num_patience_epochs 6 \
    --weight_decay 0 --max_grad_norm 1 $dropout --seed "${SEED:-42}" "$@"
