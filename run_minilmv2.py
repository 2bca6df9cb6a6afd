"""Distil any encoder into a small one on a text corpus by its relations (MiniLMv2, Wang et al. 2021; arXiv:2012.15828).

    python run_minilmv2.py --teacher_model_path bert-base-uncased --corpus outputs/corpus/wiki --layer 6 --hidden 384
    torchrun --nproc_per_node 8 run_minilmv2.py ...                          # same flags; the blocks per update are printed
    python run_minilmv2.py ... --corpus 'text/*.txt' --streaming --max_steps 100000      # without building a corpus
    python run_minilmv2.py ... --student_path 12,3L                          # by way of an assistant of 12 layers
    python run_minilmv2.py ... --teacher_model_path outputs/minilmv2/NAME --iteration 2 --layer 3       # the same in two runs
    python run_minilmv2.py ... --teacher_model_path outputs/sparsification/corpus --sparsity 90        # Sparse MiniLM: a crop
    python run_minilmv2.py ... --ofa_layer 6,4,3 --ofa_hidden 768,512,384,256,192      # once-for-all: 15 students
Reads a pretrained encoder and a corpus of run_corpus.py; writes a stock encoder that run_finetuning.py takes, and a picture of
the loss on blocks that are held out. The student learns how similar the queries, keys and values of every two tokens are in ONE
layer of the teacher: no labels, no vocabulary, any width and number of heads on either side.
A crop and once-for-all students are MiniMoE's (Zhang et al. 2023): they learn from projections of their final states, which
are dropped afterwards. The teacher of a crop has been sorted by run_sparsification.py --task_name corpus; each once-for-all
student is a checkpoint of its own beside the largest (student_4L_512H/).
"""

import models
from data.corpus import training_blocks
from data.model_tokenizer import load_tokenizer
from models.once_for_all import distil_parts
from models.relation_distillation import distil_along, participants
from models.resized import resized
from utils import families, flags, runs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__, flags.corpus.corpus, flags.relations.relations, flags.relations.student, flags.parts.students, flags.training,
        flags.runtime, flags.relations.models,
    )  # fmt: skip
    parser.set_defaults(learning_rate=6e-4, max_grad_norm=1.0, relation_source=None)

    def check(args):
        yield from flags.parts.fill_students(args)
        _, student = yield from flags.relations.check_relations(args, layers=6)
        yield from flags.parts.check_students(args, student)
        if families.has_experts(student):
            yield f"--student_model_path: has experts ({student['model_type']}); run_minimoe.py trains it"

    def name(args):
        return flags.relations.name(args) + flags.parts.name(args)

    return flags.resolve(parser, argv, stage="minilmv2", name=name, check=check)


def main(args):
    """Distil, hop after hop; returns the folder of the student."""
    # ---- Run folder, device, seed
    text = training_blocks.recorded_inputs(args.corpus, from_text=flags.corpus.text_format(args))
    run = runs.start(args, inputs={**text, "teacher": args.teacher_model_path, "student": args.student_model_path})

    # ---- Teacher and corpus; both checked against each other and against the student
    tokenizer = load_tokenizer(args.tokenizer_name_or_path or args.teacher_model_path)
    teacher, given, hops, max_positions = participants(args, tokenizer)
    options = flags.corpus.data_options(args)
    train, heldout = training_blocks.train_and_heldout(tokenizer, **options, max_positions=max_positions)

    # ---- Student. Where its weights come from, in this order: this run's last state (training.fit restores it); the given
    # checkpoint, of which --sparsity takes a part; the teacher; random ones
    def student_of(teacher, hop, *, is_last):
        if args.sparsity is not None:
            return models.crop(given, args.sparsity)
        return given or resized(teacher, hop, init=args.student_init, seed=args.seed)

    run.report(teacher=models.describe(teacher), hops=[vars(hop) for hop in hops], data={"heldout": len(heldout)})
    run.begin()
    if args.ofa_layer:
        (hop,) = hops
        student = models.with_dropout(student_of(teacher, hop, is_last=True), **flags.dropouts(args))
        return distil_parts(
            hop, flags.parts.parts(args), teacher, student, train, heldout, tokenizer=tokenizer, run=run
        )  # fmt: skip
    return distil_along(hops, teacher, student_of, train, heldout, tokenizer=tokenizer, run=run)


if __name__ == "__main__":
    runs.guard(main, parse)
