# TED's published settings for nine tasks, DeBERTaV3-base to DeBERTaV3-xsmall, side by side; sourced by the
# scripts beside it. a/b: for base and for xsmall, where they differ; the stages that distil take those of xsmall.
#   metric         chooses the epoch
#   length         tokens of a row
#   batch          examples of an update; 24x2: 24 at a time, twice; stage1_batch: in stage I
#   warmup         share of the updates; published as updates of GLUE's whole train: 1500 (mnli), 5000 (qqp),
#                  500 (qnli), 100 (cola, stsb)
#   dropout        what is set to 0; in stage I, where nothing but filters and heads is trained, cls alone
#   kd, lwd, ted   --kl_alpha, or --kl_alpha/--mse_alpha. --kl_alpha of stsb was published for a softmax over the
#                  batch, that is --regression_kl listwise; the default distils the scores
TASK=${TASK:-nothing}
tasks=
{
    read -r _ # the names of the columns
    while read -r task metric length epochs batch stage1_batch rate warmup dropout kd lwd ted more; do
        if [ "$task" = "$TASK" ]; then break; fi
        tasks="$tasks $task"
    done
} <<'TABLE'
task   metric            length epochs batch  stage1_batch rate      warmup   dropout      kd lwd    ted     more
mnli   acc               256    3      64     64           2e-5/7e-5 0.0815   -            5  5/100  5/7500
qqp    f1                256    8      64     64           2e-5/6e-5 0.1099   -            20 20/20  20/1000
qnli   acc               256    3      32     32           1e-5/5e-5 0.0509   -            20 20/10  20/100
sst2   acc               256    6      32     32           2e-5/4e-5 0        -            20 20/20  20/20
rte    acc               256    6      16     16/32        3e-5/6e-5 0        cls,hidn,att 20 20/20  20/50
cola   matthews_corrcoef 256    6      32     32           2e-5/6e-5 0.0622/0 -/cls        20 0/5    0/10
mrpc   f1                256    6      32     32           3e-5/7e-5 0        -            20 20/5   20/100
stsb   spearman          128    6      16     16           2e-5/1e-4 0.0463   -            20 20/5   20/50
squad2 f1                384    3      24x2/8 24x2/8       3e-5/5e-5 0        -            10 10/100 10/5000 --doc_stride 128
TABLE
# Published scores on dev, of one run, its best epoch: both models fine-tuned, then the student distilled.
# None is reproduced here.
#   task   metric    base  xsmall  KD    LWD   TED
#   mnli   accuracy  90.6  88.3    88.5  88.4  88.8
#   qqp    F1        89.9  88.9    89.0  89.0  89.5
#   qnli   accuracy  94.1  92.6    92.8  92.9  93.1
#   sst2   accuracy  96.4  93.6    94.0  94.3  94.4
#   rte    accuracy  86.3  83.4    80.1  80.8  83.0
#   cola   Matthews  68.4  66.0    64.6  65.8  68.3
#   mrpc   F1        93.5  93.0    93.6  93.4  93.9
#   stsb   Spearman  91.5  90.4    90.7  90.6  91.1
#   squad2 F1        88.4  84.5    85.7  85.8  86.4

stop() { # message
    echo "$1" >&2
    exit 2
}
[ "$task" = "$TASK" ] || stop "TASK: found $TASK, expected one of$tasks: TASK=mrpc bash $0"
[ "$SIZE" = base ] || [ "$SIZE" = xsmall ] || stop "SIZE: found $SIZE, expected base or xsmall"

of_size() { # a/b, or one value for both
    if [ "$SIZE" = base ]; then echo "${1%/*}"; else echo "${1#*/}"; fi
}

DATA_DIR=${DATA_DIR:-datasets} # the parent of $TASK/
# shellcheck disable=SC2206
data=(--task_name "$TASK" --data_dir "$DATA_DIR" --max_length "$length" --selection_metric "$metric" $more)

set_training() { # batch, dropouts; fills the array training
    local size dropped
    size=$(of_size "$1")
    training=(--per_device_train_batch_size "${size%x*}" --learning_rate "$(of_size "$rate")"
        --warmup_proportion "$(of_size "$warmup")" --num_train_epochs "$epochs" --weight_decay 0 --max_grad_norm 1)
    if [[ $size == *x* ]]; then training+=(--num_grad_accum_steps "${size#*x}"); fi
    for dropped in $(of_size "$2" | tr ',-' '  '); do training+=("--${dropped}_dropout" 0); done
    training+=(--seed "${SEED:-42}")
}
