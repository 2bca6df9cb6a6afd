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

from utils import checkpoints, corpus_flags, flags, relation_flags, runs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__, corpus_flags.corpus, relation_flags.relations, relation_flags.student, flags.training, flags.runtime,
        relation_flags.models,
    )  # fmt: skip
    parser.set_defaults(learning_rate=6e-4, max_grad_norm=1.0)

    def check(args):
        _, student = yield from relation_flags.check(args, layers=6)
        if checkpoints.has_experts(student):
            yield f"--student_model_path: has experts ({student['model_type']}); run_minimoe.py trains it"

    return flags.resolve(parser, argv, stage="minilmv2", name=relation_flags.name, check=check)


def main(args):
    """Distil, hop after hop; returns the folder of the student."""
    import models
    from data import corpora, pipelines
    from models.relation_distillation import distil_along, participants
    from models.resized import resized

    # ---- Run folder, device, seed
    inputs = {**corpora.inputs(args), "teacher": args.teacher_model_path, "student": args.student_model_path}
    run = runs.start(args, inputs=inputs)

    # ---- Teacher and corpus; both checked against each other and against the student
    tokenizer = pipelines.load_tokenizer(args.tokenizer_name_or_path or args.teacher_model_path)
    teacher, given, hops, max_positions = participants(args, tokenizer)
    train, heldout = corpora.parts(args, tokenizer, max_positions=max_positions)

    # ---- Student. Where its weights come from, in this order: this run's last state (training.fit restores it); the given
    # checkpoint; the teacher; random ones
    def student_of(teacher, hop, *, is_last):
        return given or resized(teacher, hop, init=args.student_init, seed=args.seed)

    run.report(teacher=models.describe(teacher), hops=[vars(hop) for hop in hops], data={"heldout": len(heldout)})
    run.begin()
    return distil_along(hops, teacher, student_of, train, heldout, tokenizer=tokenizer, run=run)


if __name__ == "__main__":
    runs.guard(main, parse)
