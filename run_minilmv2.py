"""Distil any encoder into a small one on a text corpus by its relations (MiniLMv2, Wang et al. 2021; arXiv:2012.15828).

    python run_minilmv2.py --teacher_model_path bert-base-uncased --corpus outputs/corpus/wiki --layer 6 --hidden 384
    torchrun --nproc_per_node 8 run_minilmv2.py ...                          # same flags; the blocks per update are printed
    python run_minilmv2.py ... --corpus 'text/*.txt' --streaming --max_steps 100000      # without building a corpus
    python run_minilmv2.py ... --student_path 12,3L                          # by way of an assistant of 12 layers
    python run_minilmv2.py ... --teacher_model_path outputs/minilmv2/NAME --iteration 2 --layer 3       # the same in two runs
Reads a pretrained encoder and a corpus of run_corpus.py; writes a stock encoder that run_finetuning.py takes, and a picture of
the loss on blocks that are held out. The student learns how similar the queries, keys and values of every two tokens are in ONE
layer of the teacher: no labels, no vocabulary, any width and number of heads on either side.
"""

from utils import flags, relation_flags, runs

UNTRAINED = (
    "Behind the queries, keys and values of the last layer nothing was trained: its attention output and feed-forward, and the "
    "pooler, are as initialised. Fine-tuning trains them; as a frozen feature extractor take the states before that layer."
)
NO_VOCABULARY = "There is no head for masked words: `fill-mask` would give random words. Fine-tune it before use."


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__, flags.corpus, relation_flags.relations, relation_flags.student, flags.training, flags.runtime
    )  # fmt: skip
    flags.model_path(parser, "--teacher_model_path", "any encoder of the architecture table",
                     aliases=("--input_model_dir", "--teacher_model_name_or_path"))  # fmt: skip
    flags.model_path(parser, "--student_model_path", "a student of its own: a checkpoint, or a folder with a config.json alone",
                     required=False)  # fmt: skip
    add = parser.add_argument_group("minilmv2").add_argument
    add("--tokenizer_name_or_path", "--tokenizer_dir", metavar="PATH", help="the teacher's")
    add("--iteration", type=flags.positive_int, default=1,
        help="from 2 on the teacher is a student of the iteration before, which was trained in its last layer")  # fmt: skip
    add("--mlm_weight", type=flags.non_negative, default=0.0, help="of a loss on masked tokens beside the relations; 0: none")
    add("--mlm_probability", type=flags.fraction, default=0.15, help="share of tokens that are masked for it, for both models")
    parser.set_defaults(learning_rate=6e-4, warmup_proportion=0.01, max_grad_norm=1.0, eval_interval=1000)

    def check(args):
        yield from flags.check_corpus(args)
        yield from relation_flags.fill(args)
        configs = {}
        for name in ("teacher_model_path", "student_model_path"):
            configs[name], problem = flags.config_of(args, name)
            yield from [problem] if problem else []
        yield from relation_flags.problems(args, *configs.values())

    return flags.resolve(parser, argv, stage="minilmv2", name=relation_flags.name, check=check)


def main(args):
    """Distil, hop after hop; returns the folder of the student."""
    import models
    from data import corpora, pipelines
    from models.relation_distillation import distil
    from models.resized import check_vocabulary, given_student, max_positions, resized
    from utils import distributed, logs, plots

    # ---- Run folder, device, seed
    inputs = {**corpora.inputs(args), "teacher": args.teacher_model_path, "student": args.student_model_path}
    run = runs.start(args, inputs=inputs)

    # ---- Teacher and corpus; both checked against each other and against the student
    tokenizer = pipelines.load_tokenizer(args.tokenizer_name_or_path or args.teacher_model_path)
    teacher = models.freeze(models.load_model(args.teacher_model_path))
    models.architectures.of(teacher)
    given = given_student(args.student_model_path, seed=args.seed) if args.student_model_path else None
    if given is not None:
        check_vocabulary(given, tokenizer, args.student_model_path)
    hops = relation_flags.hops(args, teacher.config.to_dict(), given and given.config.to_dict())
    limits = [limit for limit in map(max_positions, filter(None, (teacher, given))) if limit is not None]
    corpus = corpora.from_flags(args, tokenizer, max_positions=min(limits, default=None))
    per_update = args.per_device_train_batch_size * args.num_grad_accum_steps * distributed.world()
    num_heldout = runs.DRY_RUN_ROWS if args.dry_run else args.num_heldout_blocks
    train, heldout = corpus.split(num_heldout, at_least=per_update)
    run.report(teacher=models.describe(teacher), hops=[vars(hop) for hop in hops], data={"heldout": len(heldout)})
    run.begin()

    found, checkpoints = [], []
    for number, hop in enumerate(hops, 1):
        # ---- Student. Where its weights come from, in this order: this run's last state (training.fit restores it); the given
        # checkpoint; the teacher; random ones
        if given is not None:
            student = given
        else:
            student = resized(teacher, hop, init=args.student_init, seed=args.seed)
        student = models.with_dropout(student, args)
        stage = "train" if len(hops) == 1 else f"iteration_{number}"
        before, result = distil(student, teacher, hop, train, heldout, tokenizer=tokenizer, run=run, stage=stage)
        checkpoints.append(result.checkpoint)
        found.append({"stage": stage, **vars(hop), "heldout_before": before, "metrics": result.metrics,
                      "best_step": result.best_step, "num_steps": result.num_steps, "seconds": result.seconds})  # fmt: skip
        teacher = models.freeze(models.load_model(result.checkpoint))

    # ---- Pictures, assistants, the student with its card
    notes = [*([] if args.relation_source == "extra" or args.mlm_weight else [UNTRAINED]), NO_VOCABULARY]
    if distributed.is_main():
        for number, hop in enumerate(found, 1):
            rows = [{"step": 0, **hop["heldout_before"]}, *logs.evaluations(run.folder, hop["stage"], split="heldout")]
            suffix = "" if len(hops) == 1 else f"_{number}"
            plots.history(run.folder / f"heldout{suffix}.png", rows, value="held-out loss (nats)",
                          title=f"{hop['layers']} layers, {hop['hidden']} wide")  # fmt: skip
        for number, hop in enumerate(found[:-1], 1):
            run.keep(checkpoints[number - 1], f"assistant_{number}", {**hop, "notes": notes})
    run.finish(result.checkpoint, metrics=result.metrics, last_metrics=result.last_metrics, best_step=result.best_step,
               num_steps=result.num_steps, hops=found, notes=notes, model=models.describe(teacher))  # fmt: skip
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
