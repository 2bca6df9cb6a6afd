"""The flags of run_stark.py and what can be wrong with them, as far as the checkpoints' configs tell.

Nothing here imports torch.
"""

from utils import checkpoints, families
from utils.flags import model_types
from utils.flags.checks import check_config, check_hold_out, check_one_part, check_student, student_parts
from utils.flags.groups import model_path
from utils.flags.parser import fraction, percentages


def stark(parser):
    """The flag group of run_stark.py.  check_stark() checks it."""
    role = "the fine-tuned teacher; without a trial student, the sparse one"
    model_path(parser, "--teacher_model_path", role)
    role = "the trial student, that the teacher is sparsified for"
    model_path(parser, "--student_model_path", role, required=False)
    model_path(
        parser, "--student_init_path", "what the trial started from (default: the teacher)", required=False
    )
    add = parser.add_argument_group("stark").add_argument
    add(
        "--lam",
        type=fraction,
        default=0.5,
        help="lambda: 1, expressiveness alone; 0, student-friendliness alone",
    )
    add(
        "--friendliness_loss",
        choices=("soft_ce", "kl"),
        default="soft_ce",
        help="kl: soft_ce without the teacher's entropy",
    )
    add(
        "--friendliness_sign",
        choices=("abs", "signed"),
        default="abs",
        help="signed: negative where removing the unit would lower the student's loss",
    )
    add(
        "--grid",
        type=percentages,
        default="0,10,20,30,40,50,60,70,80,90",
        help="sparsities of the teacher in percent",
    )
    add(
        "--do_rewind", action="store_true", help="distil the student again, from each of --teacher_sparsities"
    )
    add("--teacher_sparsities", type=percentages, help="grid points to rewind with (default: all above 0)")


def name(args) -> str:
    """What identifies a run: task, and the student where it is rewound."""
    parts = student_parts(args)
    student = parts[0][1] if parts else "rewound"
    return f"{args.task_name}_{student}" if args.do_rewind else args.task_name


def scoring_options(args) -> dict:
    """What the flags say, by the names that models.knowledge_scores takes it under."""
    return {
        "friendliness_loss": args.friendliness_loss,
        "signed": args.friendliness_sign == "signed",
        "temperature": args.temperature,
        "batch_size": args.scoring_batch_size,
        "seed": args.seed,
    }


def check_stark(args, task, *, objectives):
    """Yield what is wrong.  task: an entry of the registry.  objectives: {name: row} of all; a run has kd."""
    configs, kd = {}, {"kd": objectives["kd"]}
    for flag in ("teacher_model_path", "student_model_path", "student_init_path"):
        configs[flag] = yield from check_config(args, flag)
        yield from model_types.check_model_type(args, task, configs[flag], objectives=kd)
    weights = model_types.given_weights(args, objectives)
    name = model_types.objective_of(args.model_type, "kd", kd)
    yield from model_types.check_terms(args, name, objectives, choices=kd, temperature=2.0)
    yield from _check_temperature(args, task, objectives)
    yield from check_hold_out(args, configs, trained=configs)
    teacher, scoring, parts = (configs["teacher_model_path"], args.student_model_path, student_parts(args))
    if args.friendliness_loss == "kl" and args.friendliness_sign == "abs":
        yield (
            "--friendliness_loss kl with --friendliness_sign abs: this gradient is large where teacher and "
            "student disagree, and its absolute value would keep the units that cause the disagreement; add "
            "--friendliness_sign signed"
        )
    for flag in ("student_model_path", "student_init_path"):
        sizes = [known.get("vocab_size") for known in (configs[flag], teacher) if known]
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            yield (
                f"--{flag}: its vocabulary has {sizes[0]} pieces, the teacher's {sizes[1]}; expected the "
                "same pieces, as both read the same ids"
            )
    compression = (teacher or {}).get("compression") or {}
    grid = args.grid if scoring else families.grid(teacher or {})
    if compression.get("sparsity"):
        yield (
            f"--teacher_model_path: cropped to a sparsity of {compression['sparsity']:g}; expected a teacher "
            "with all its units"
        )
    elif teacher and not scoring and not grid:
        yield (
            "--teacher_model_path: not nested (no grid in its config); give --student_model_path to have it "
            "sparsified first"
        )
    if not args.do_rewind:
        given = {
            "--student_init_path": args.student_init_path,
            "--teacher_sparsities": args.teacher_sparsities,
            "--teacher_dtype": args.teacher_dtype,
            **{f"--{term}_weight": True for term in weights},
        }
        for flag in (flag for flag, value in given.items() if value):
            yield f"{flag}: has a meaning only with --do_rewind"
        if args.unlabelled_file or args.unlabelled_only:
            yield (
                "--unlabelled_file, --unlabelled_only: units are scored by gold labels, which these rows "
                "lack; add --do_rewind, which distils, or leave them out"
            )
        if not scoring:
            yield (
                "--student_model_path: required, the trial student; or --do_rewind, where the teacher is "
                "sparse already"
            )
        yield from _check_trial(configs["student_model_path"], parts)
        return
    yield from model_types.check_unlabelled(args, "kd", kd)
    yield from check_one_part(parts)
    if not args.student_init_path and not (scoring and parts):
        yield "--student_init_path: required, what the trial distillation started from" + (
            ", or a part of the teacher (--student_sparsity, --student_layer)" if scoring else ""
        )
    source = "student_init_path" if args.student_init_path else "teacher_model_path"
    for flag, part in parts if configs[source] else ():
        yield from check_student(
            part, configs[source], flag, source="checkpoint" if args.student_init_path else "teacher"
        )
    for s in args.teacher_sparsities or ():
        if s == 0:
            yield (
                "--teacher_sparsities: 0 is the dense teacher, whose student is always reported and never "
                "chosen; leave it out"
            )
        elif grid and s not in grid:
            yield (
                f"--teacher_sparsities {s:g}: not in the teacher's grid: "
                f"{', '.join(f'{point:g}' for point in grid)}"
            )


def _check_temperature(args, task, objectives):
    """Yield that the trial student is known to have learnt from its teacher at another temperature than the
    one that is scored with.  Scores of a regression have none."""
    if args.student_model_path is None or task is None or task.kind == "regression":
        return
    trial = checkpoints.settings_of(args.student_model_path)
    found, model_type = trial.get("temperature"), trial.get("model_type")
    if not isinstance(found, int | float) or not isinstance(model_type, str | None):
        return
    name = model_types.objective_of(model_type, "sparse", objectives)
    if name and "soft_label" in objectives[name].terms and found != args.temperature:
        yield (
            f"--temperature {args.temperature:g}: the trial student, --student_model_path "
            f"{args.student_model_path}, was distilled with --temperature {found:g}; expected the "
            "same: distil the trial again, or give its --temperature here"
        )


def _check_trial(student, parts):
    """Yield what contradicts the trial student's config (None: not known), where nothing is rewound: as
    published, no more."""
    sizes = {
        "S": ((student or {}).get("compression") or {}).get("sparsity", 0),
        "L": families.size(student, "layers") if student else None,
    }
    for flag, part in parts if student else ():
        if float(part[:-1]) != sizes[part[-1]]:
            yield (
                f"{flag} {part[:-1]}: the trial student has {sizes['L']} layers and a sparsity of "
                f"{sizes['S']:g}%"
            )
