#!/usr/bin/env bash
# Stage II of TED: DeBERTaV3-base into DeBERTaV3-xsmall through filters.
#   TASK=mrpc bash deberta_scripts/run_ted.sh       # after run_learn_filters.sh with SIZE=base and with SIZE=xsmall
# time    published for SQuAD 2.0: about 14 hours on a V100
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=xsmall
source deberta_scripts/settings.sh
TEACHER=${TEACHER:-outputs/deberta/$TASK/base_filters}
STUDENT=${STUDENT:-outputs/deberta/$TASK/xsmall_filters}
INIT=${INIT:-stage1}                       # finetuned, pretrained: new filters
OUTPUT=${OUTPUT:-outputs/deberta/$TASK/ted}
set_training "$batch" "$dropout"
${LAUNCH:-python} run_ted.py --mode ted "${data[@]}" --output_dir "$OUTPUT" \
    --teacher_model_path "$TEACHER" --student_model_path "$STUDENT" --student_init "$INIT" \
    --kl_alpha "${ted%/*}" --mse_alpha "${ted#*/}" "${training[@]}" --num_patience_epochs "$epochs" "$@"
