#!/usr/bin/env bash
# MiniMoE in small, through a teacher assistant: 6 layers, 384 wide, into 6 dense ones of 192, and those into 3 with 4 experts.
#   STEPS=3000 bash bert_scripts/run_minimoe_3x192.sh                        # after run_corpus_wiki.sh with the same TEACHER
# settings: ours, for one CPU; results/README.md compares such students with dense ones
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-sentence-transformers/all-MiniLM-L6-v2}
CORPUS=${CORPUS:-outputs/corpus/wiki}
STEPS=${STEPS:-1500}                       # of 16 blocks, for each of the two students
OUTPUT=${OUTPUT:-outputs/minimoe/6-3L_192_1-4}
${LAUNCH:-python} run_minimoe.py --teacher_model_path "$TEACHER" --corpus "$CORPUS" --output_dir "$OUTPUT" --moe 1,4 \
    --student_path 6,3L --hidden 192 --heads 12 --student_init slice --max_steps "$STEPS" --per_device_train_batch_size 16 \
    --learning_rate 1e-3 --eval_interval 250 --seed "${SEED:-776}" "$@"
