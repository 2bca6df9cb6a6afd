#!/usr/bin/env bash
# SQuAD 2.0, stage 0 of TED: fine-tune the teacher (SIZE=base) and the student (SIZE=xsmall).
#   python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base     # first, and for xsmall
#   SIZE=xsmall bash deberta_scripts/run_finetuning_squad2.sh --learning_rate 5e-5     # any flag given by hand wins
# expect  not measured; published dev F1 88.4 (base), 84.5 (xsmall)
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/pretrained/$SIZE}   # made by get_model.py; or a hub name with safetensors
DATA_DIR=${DATA_DIR:-datasets}              # the parent of squad2/
OUTPUT=${OUTPUT:-outputs/deberta/squad2/$SIZE}
if [ "$SIZE" = base ]; then rate=3e-5 size=24 accumulate=2; else rate=5e-5 size=8 accumulate=1; fi
${LAUNCH:-python} run_finetuning.py --task_name squad2 --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --max_length 384 --doc_stride 128 --per_device_train_batch_size "$size" --num_grad_accum_steps "$accumulate" --learning_rate "$rate" \
    --warmup_proportion 0 --num_train_epochs 3 --num_patience_epochs 3 \
    --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
