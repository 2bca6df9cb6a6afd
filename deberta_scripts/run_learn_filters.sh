#!/usr/bin/env bash
# Stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) and of the student (SIZE=xsmall).
#   TASK=mrpc SIZE=xsmall bash deberta_scripts/run_learn_filters.sh       # after run_finetuning.sh with the same SIZE
# time    published for SQuAD 2.0: about 40 minutes each on a V100
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
source deberta_scripts/settings.sh
MODEL=${MODEL:-outputs/deberta/$TASK/$SIZE}
OUTPUT=${OUTPUT:-outputs/deberta/$TASK/${SIZE}_filters}
set_training "$stage1_batch" "${dropout/cls,*/cls}"
if [ "$TASK" != squad2 ]; then training+=(--cache_teacher); fi # first tokens; those of all tokens do not fit into memory
${LAUNCH:-python} run_ted.py --mode filters "${data[@]}" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 "${training[@]}" "$@"
