#!/usr/bin/env bash
# StarK on MRPC, trial distillation: a pruned or layer-dropped student learns from the dense teacher.
#   STUDENT=4L bash bert_scripts/run_stark_trial_mrpc.sh                     # after run_sparsification_mrpc.sh
# batch and rate: the model cards of StarK's teachers; epochs and evaluation interval: MiniDisc's scripts
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-outputs/finetuning/mrpc}
INIT=${INIT:-outputs/sparsification/mrpc}    # what the student is a part of
STUDENT=${STUDENT:-70S}                    # 70S: drop 70% of heads and neurons; 4L: keep 4 layers
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/distillation/mrpc_trial_$STUDENT}
[[ $STUDENT == *L ]] && part=(--student_layer "${STUDENT%L}") || part=(--student_sparsity "${STUDENT%S}")
${LAUNCH:-python} run_distillation.py --task_name mrpc --data_dir "$DATA_DIR" --teacher_model_path "$TEACHER" --output_dir "$OUTPUT" \
    --student_model_path "$INIT" "${part[@]}" --model_type kd --temperature 2 --cache_teacher \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 10 --seed "${SEED:-776}" "$@"
