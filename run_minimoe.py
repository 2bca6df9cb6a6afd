"""Distil any encoder into a small one of many experts on a text corpus (MiniMoE, Zhang et al. 2023;
arXiv:2305.12129).

    python run_minimoe.py --teacher_model_path bert-large-uncased --corpus outputs/corpus/wiki --layer 3 \\
        --moe 1,4
    torchrun --nproc_per_node 8 run_minimoe.py ...  # same flags; the blocks per update are printed
    python run_minimoe.py ... --moe 1,1  # its dense twin, trained in the same way
    python run_minimoe.py ... --student_path 12,3L  # by way of a dense assistant of 12 layers
    python run_minimoe.py ... --expert_init equal  # begins as its dense twin, to the last digit
    python run_minimoe.py ... --student_model_path dense/checkpoint  # its sublayers become experts
Reads a pretrained encoder and a corpus of run_corpus.py; writes an encoder that run_finetuning.py takes, and
pictures of the held-out loss and of the experts' shares of the tokens. Each token uses one of 4 feed-forward
sublayers of full width: four times the parameters in them, hardly more arithmetic. The student learns the
relations of MiniLMv2, from three more projections behind its last layer, which are dropped afterwards:
without them (--relation_source last) its last experts would stay as initialised. --expert_init random, as
published: experts begin with two thirds of their neurons in common, and the routing probability, at first
about 1 / 4, scales what a sublayer adds. equal: all begin as copies of the dense twin's, and no
probability scales them (a factor of 1, through which the router learns all the same): at step 0 the student
computes what --moe 1,1 does with the same flags. From a checkpoint always equal.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

from fractions import Fraction

import models
from data.corpus import training_blocks
from data.model_tokenizer import encoding_hash, load_tokenizer
from models import moe_bert, relation_distillation
from models.resized import resized
from utils import flags, runs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__,
        flags.corpus.corpus,
        flags.relations.relations,
        flags.relations.student,
        flags.experts.experts,
        flags.balance,
        flags.training,
        flags.runtime,
        flags.relations.models,
    )
    parser.set_defaults(
        teacher_layer="last",
        num_relation_heads=32,
        relation_source="extra",
        relation_weighting="token",
        learning_rate=3e-4,
        per_device_train_batch_size=128,
        num_train_epochs=5,
    )

    def check(args):
        configs = yield from flags.relations.check_relations(args, layers=4)
        has_weights = flags.relations.has_weights(args.student_model_path)
        yield from flags.experts.check_experts(args, *configs, student_has_weights=has_weights)

    def name(args):
        return f"{flags.relations.name(args)}_{(args.moe or 'moe').replace(',', '-')}E"

    return flags.resolve(parser, argv, stage="minimoe", name=name, check=check)


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
    how = {"attn_implementation": args.attn_implementation}
    teacher, given, max_positions = relation_distillation.teacher_and_student(
        args.teacher_model_path, args.student_model_path, tokenizer, seed=args.seed, **how
    )
    blocks.require_positions(max_positions)
    hops = flags.hops.hops_of(args, teacher.config.to_dict(), given and given.config.to_dict())
    run.report(
        teacher=models.describe(teacher), hops=[vars(hop) for hop in hops], data={"heldout": len(heldout)}
    )
    run.begin()

    # ---- Hop after hop: each student is the teacher of the next; the last one has the experts
    done = []
    for number, hop in enumerate(hops, 1):
        stage = "train" if len(hops) == 1 else f"iteration_{number}"
        # ---- Student. Where its weights come from, in this order: this run's last state (training.fit
        # restores it); the given checkpoint, whose feed-forwards become experts unless they are; the teacher;
        # random ones
        student = given or resized(teacher, hop, init=args.student_init, seed=args.seed)
        if args.moe is not None and number == len(hops):
            options = flags.experts.options(args)
            if args.expert_init == "equal":
                student = moe_bert.with_equal_experts(student, **options)
            else:
                shared = Fraction(args.expert_shared_fraction)
                student = moe_bert.with_experts(student, shared_fraction=shared, **options)
        student = models.for_training(student, **flags.how_trained(args))
        teacher = models.frozen_in(teacher, args.teacher_dtype)

        # ---- Objective: the relations of one layer of the teacher; of experts, that they share the work
        encoder, objective = relation_distillation.encoder_and_objective(
            student,
            teacher,
            hop,
            **flags.relations.objective_options(args),
            tokenizer=tokenizer,
            device=run.device,
        )
        weight = args.load_balance_weight if moe_bert.routers(student) else None
        balance = models.Balance(student, weight, num_parts=args.num_grad_accum_steps)

        # ---- Train, keep what is best on blocks that are held out
        distilled = relation_distillation.train(
            encoder,
            objective,
            hop,
            blocks,
            heldout,
            tokenizer=tokenizer,
            run=run,
            stage=stage,
            balance=balance,
        )
        done.append(distilled)
        student = models.freeze(models.load_model(distilled.result.checkpoint, **how))
        teacher = student  # of the next hop

    # ---- Pictures, assistants, the student with its card
    trained = args.relation_source == "extra" or args.mlm_weight > 0
    relation_distillation.finish(run, done, student, last_layer_trained=trained)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
