#!/usr/bin/env bash
# MiniMoE through a teacher assistant: BERT-large into 12 dense layers, 384 wide, and that into 3 layers with 4 experts each.
#   SEED=1 bash bert_scripts/run_minimoe_12-3.sh                             # after run_corpus_wiki.sh
# settings: MiniMoE's scripts, which train on 8 GPUs with 128 blocks each, sentence pairs (CORPUS: run_corpus.py --blocks pairs)
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-bert-large-uncased}     # any encoder
CORPUS=${CORPUS:-outputs/corpus/wiki}
MOE=${MOE:-1,4}                            # attention experts, feed-forward experts; 1,1: a dense student
OUTPUT=${OUTPUT:-outputs/minimoe/12-3L_384_${MOE/,/-}}
${LAUNCH:-python} run_minimoe.py --teacher_model_path "$TEACHER" --corpus "$CORPUS" --output_dir "$OUTPUT" --moe "$MOE" \
    --student_path 12,3L --hidden 384 --heads 12 --num_relation_heads 32 --num_train_epochs 5 --per_device_train_batch_size 128 \
    --learning_rate 3e-4 --warmup_proportion 0.01 --weight_decay 0.01 --max_grad_norm 5.0 --eval_interval 1000 \
    --seed "${SEED:-776}" "$@"
