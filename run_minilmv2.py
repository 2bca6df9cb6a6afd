"""Distil any encoder into a small one on a text corpus by its relations (MiniLMv2, Wang et al. 2021;
arXiv:2012.15828).

    python run_minilmv2.py --teacher_model_path bert-base-uncased --corpus outputs/corpus/wiki --layer 6 \\
        --hidden 384
    torchrun --nproc_per_node 8 run_minilmv2.py ...  # same flags; the blocks per update are printed
    python run_minilmv2.py ... --corpus 'text/*.txt' --streaming \\
        --max_steps 100000  # without building a corpus
    python run_minilmv2.py ... --student_path 12,3L  # by way of an assistant of 12 layers
    python run_minilmv2.py ... --teacher_model_path outputs/minilmv2/NAME --iteration 2 \\
        --layer 3  # the same in two runs
    python run_minilmv2.py ... --teacher_model_path outputs/sparsification/corpus \\
        --sparsity 90  # Sparse MiniLM: a crop
    python run_minilmv2.py ... --ofa_layer 6,4,3 --ofa_hidden 768,512,384,256,192  # once-for-all: 15 students
Reads a pretrained encoder and a corpus of run_corpus.py; writes a stock encoder that run_finetuning.py takes,
and a picture of the loss on blocks that are held out. The student learns how similar the queries, keys and
values of every two tokens are in ONE layer of the teacher: no labels, no vocabulary, any width and number of
heads on either side.
A crop and once-for-all students are MiniMoE's (Zhang et al. 2023): they learn from projections of their final
states, which are dropped afterwards. The teacher of a crop has been sorted by run_sparsification.py
--task_name corpus; each once-for-all student is a checkpoint of its own beside the largest
(student_4L_512H/).
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

import models
from data.corpus import training_blocks
from data.model_tokenizer import encoding_hash, load_tokenizer
from models import once_for_all, relation_distillation
from models.resized import resized
from utils import families, flags, runs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__,
        flags.corpus.corpus,
        flags.relations.relations,
        flags.relations.student,
        flags.parts.students,
        flags.training,
        flags.runtime,
        flags.relations.models,
    )
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
    # ---- Tokenizer, run folder, device, seed
    source = args.tokenizer_name_or_path or args.teacher_model_path
    tokenizer = load_tokenizer(source, masks=args.mlm_weight > 0)
    text = training_blocks.recorded_inputs(args.corpus, from_text=flags.corpus.text_format(args))
    models_read = {"teacher": args.teacher_model_path, "student": args.student_model_path}
    hashed = {"tokenizer": {"text to ids": encoding_hash(tokenizer)}}
    run = runs.start(args, inputs={**text, **models_read, **hashed})

    # ---- Corpus, teacher, a student that is given, the sizes of each hop: checked against each other
    blocks, heldout = training_blocks.train_and_heldout(tokenizer, **flags.corpus.data_options(args))
    how = {"shard": args.shard, "attn_implementation": args.attn_implementation}
    teacher, given, max_positions = relation_distillation.teacher_and_student(
        args.teacher_model_path, args.student_model_path, tokenizer, seed=args.seed, **how
    )
    blocks.require_positions(max_positions)
    hops = flags.hops.hops_of(args, teacher.config.to_dict(), given and given.config.to_dict())
    run.report(
        teacher=models.describe(teacher), hops=[vars(hop) for hop in hops], data={"heldout": len(heldout)}
    )
    run.begin()

    # ---- Hop after hop: each student is the teacher of the next
    parts, done = flags.parts.parts(args) if args.ofa_layer else [], []
    for number, hop in enumerate(hops, 1):
        stage = "train" if len(hops) == 1 else f"iteration_{number}"
        # ---- Student. Where its weights come from, in this order: this run's last state (training.fit
        # restores it); the given checkpoint, of which --sparsity takes a part; the teacher; random ones
        if args.sparsity is not None:
            student = models.crop(given, args.sparsity)
        else:
            student = given or resized(teacher, hop, init=args.student_init, seed=args.seed)
        student = models.for_training(student, **flags.how_trained(args))
        teacher = models.frozen_in(teacher, args.teacher_dtype)

        # ---- Objective: the relations of one layer of the teacher; of a once-for-all student, those of all
        # its parts
        encoder, objective = relation_distillation.encoder_and_objective(
            student,
            teacher,
            hop,
            **flags.relations.objective_options(args),
            tokenizer=tokenizer,
            device=run.device,
        )
        if parts:
            encoder = once_for_all.OnceForAll(encoder, parts)
            objective = once_for_all.PartsObjective(objective, parts)

        # ---- Train, keep what is best on blocks that are held out
        distilled = relation_distillation.train(
            encoder, objective, hop, blocks, heldout, tokenizer=tokenizer, run=run, stage=stage
        )
        done.append(distilled)
        student = models.freeze(models.load_model(distilled.result.checkpoint, **how))
        teacher = student  # of the next hop

    # ---- Pictures; assistants, or parts; the student with its card
    if parts:
        once_for_all.finish(run, parts, distilled, student, tokenizer=tokenizer)
    else:
        trained = args.relation_source == "extra" or args.mlm_weight > 0
        relation_distillation.finish(run, done, student, last_layer_trained=trained)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
