#!/usr/bin/env bash
# StarK on RTE, rewinding: the student again from its start, once for each sparsity of the teacher; the best is kept.
#   bash bert_scripts/run_stark_rewind_rte.sh --hold_out 0.1      # as given to the stages before; after run_stark_rte.sh
set -euo pipefail
cd "$(dirname "$0")/.."
STUDENT=${STUDENT:-70S}                    # of the trial: 70S or 4L
TEACHER=${TEACHER:-outputs/stark/rte_$STUDENT}
INIT=${INIT:-outputs/sparsification/rte}    # what the student is a part of, as in the trial
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/stark/rte_${STUDENT}_rewound}
[[ $STUDENT == *L ]] && part=(--student_layer "${STUDENT%L}") || part=(--student_sparsity "${STUDENT%S}")
${LAUNCH:-python} run_stark.py --task_name rte --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --do_rewind --teacher_sparsities 10,20,30,40,50,60,70,80,90 --student_init_path "$INIT" "${part[@]}" \
    --model_type kd --temperature 2 --cache_teacher \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 10 --seed "${SEED:-776}" "$@"
