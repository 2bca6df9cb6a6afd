#!/usr/bin/env bash
# The baseline LWD: DeBERTaV3-base into DeBERTaV3-xsmall by all of the teacher's hidden states.
#   TASK=mrpc bash deberta_scripts/run_lwd.sh       # after run_finetuning.sh; the published start, below TED's from stage I
#   STUDENT=outputs/deberta/mrpc/xsmall_filters INIT=stage1 TASK=mrpc bash deberta_scripts/run_lwd.sh
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=xsmall
source deberta_scripts/settings.sh
TEACHER=${TEACHER:-outputs/deberta/$TASK/base}
STUDENT=${STUDENT:-outputs/deberta/pretrained/xsmall}
INIT=${INIT:-pretrained}
OUTPUT=${OUTPUT:-outputs/deberta/$TASK/lwd}
set_training "$batch" "$dropout"
${LAUNCH:-python} run_ted.py --mode lwd "${data[@]}" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" \
    --kl_alpha "${lwd%/*}" --mse_alpha "${lwd#*/}" "${training[@]}" --num_patience_epochs "$epochs" "$@"
