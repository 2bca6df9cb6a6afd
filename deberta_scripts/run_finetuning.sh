#!/usr/bin/env bash
# Stage 0 of TED: fine-tune the teacher (SIZE=base) and the student (SIZE=xsmall).
#   python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base     # first, and for xsmall
#   TASK=mrpc SIZE=xsmall bash deberta_scripts/run_finetuning.sh --learning_rate 5e-5     # any flag given by hand wins
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
source deberta_scripts/settings.sh
MODEL=${MODEL:-outputs/deberta/pretrained/$SIZE}   # made by get_model.py; or a hub name with safetensors
OUTPUT=${OUTPUT:-outputs/deberta/$TASK/$SIZE}
set_training "$batch" "$dropout"
${LAUNCH:-python} run_finetuning.py "${data[@]}" --model_path "$MODEL" --output_dir "$OUTPUT" \
    "${training[@]}" --num_patience_epochs "$epochs" "$@"
