"""The experiments of README.md as one list of jobs; runner.py runs them, tables.py reads what they leave.

A job is one call of a script.  Jobs that differ only in seed and learning rate are of one kind, and a row of
a table.  A value
of a flag may be a reference: Run, the run folder of another kind's job; Chosen, what was best there.  A kind
with several rates tries them with the first seed; the hold-out rows choose, and the other seeds take the best
one.  $NAMES: runner.DEFAULTS.
"""

from dataclasses import dataclass, replace

FIRST, SEEDS = 776, (776, 777, 778)
# Block: what it holds, CPU hours that it may take.  In the order in which they are run
BLOCKS = {
    "B1": ("base-size teacher: MRPC, STS-B at 90S, direct and MiniDisc", 12),
    "A1": ("small teacher: the paper's figure on QQP, MaxiDisc and MiniDisc", 15),
    "A2": ("small teacher: StarK, TED, MiniMoE, MiniLMv2", 20),
    "B2": ("base-size teacher: 6 and 4 layers by KD and TED", 12),
    "B3": ("base-size teacher: 95S; MiniLMv2 from 12x768 to 6x384", 15),
    "A3": ("small teacher: 90S and 95S on five tasks", 20),
    "B4": ("base-size teacher: CoLA, RTE, SST-2 at 90S; ONNX", 20),
    "V1": ("small teacher and its 90S students with fewer pieces: MRPC, STS-B, SST-2, CoNLL; ONNX", 12),
    "V2": ("base-size teacher and its 90S student with fewer pieces: MRPC", 6),
    "U1": ("small teacher: students that also learn from unlabelled Wikipedia text: MRPC, CoNLL", 4),
}


@dataclass(frozen=True)
class Run:
    """The run folder of a kind's job, or a folder inside it.  seed: None for that of the job that asks, else
    the first."""

    kind: str
    seed: int | None = None
    inside: str = ""


@dataclass(frozen=True)
class Chosen:
    """The value of a flag in the job of a kind that was best on hold-out rows, with the first seed."""

    kind: str
    flag: str = "--learning_rate"


@dataclass(frozen=True)
class Beside:
    """A folder beside the job's run folder, whose name it adds to."""

    name: str


@dataclass(frozen=True)
class Job:
    """One call of a script.  name: its kind and what tells it from others of it.  flags: {flag: value}; True:
    no value."""

    name: str
    kind: str
    seed: int
    script: str
    flags: dict

    @property
    def block(self):
        """B1 of B1/mrpc_teacher."""
        return self.name.split("/")[0]

    @property
    def study(self):
        """B of B1/mrpc_teacher."""
        return self.name[0]

    @property
    def is_run(self):
        """Whether it is one of the repository's stages, with a run folder; others make what stages read, and
        get their place as the flag ""."""
        return self.script.startswith("run_")

    def references(self, sort):
        """All values of one sort: Run or Chosen."""
        values = [
            part
            for value in self.flags.values()
            for part in (value if isinstance(value, tuple) else (value,))
        ]
        return [value for value in values if isinstance(value, sort)]


class Jobs(dict):
    """{name: Job}, each after those it needs."""

    def add(self, kind, script, flags, *, seeds=None, rates=None):
        """Add a kind.  seeds: None for one job with the first seed.  rates: learning rates to choose from."""
        assert not self.of(kind), f"{kind} twice"
        for seed in seeds or (FIRST,):
            options = {f"_{rate}": rate for rate in rates or ()} if seed == FIRST else {"": Chosen(kind)}
            for suffix, rate in (options if rates else {"": None}).items():
                own = {
                    **flags,
                    **({"--learning_rate": rate} if rate is not None else {}),
                    **({"--seed": seed} if seeds else {}),
                }
                own = {flag: self._settled(value, seed) for flag, value in own.items()}
                name = kind + (f"_{seed}" if seeds else "") + suffix
                self[name] = Job(name, kind, seed, script, own)

    def _settled(self, value, seed):
        if isinstance(value, Run):
            known = [job.seed for job in self.of(value.kind)]
            assert known, f"{value.kind} is not in the list yet"
            return replace(value, seed=seed if seed in known else FIRST) if value.seed is None else value
        return value

    def of(self, kind, seed=None):
        """The jobs of a kind, or of a kind with a seed: more than one where rates are tried."""
        return [job for job in self.values() if job.kind == kind and seed in (None, job.seed)]

    def kinds(self):
        """All kinds, in order."""
        return list(dict.fromkeys(job.kind for job in self.values()))


# ---- What jobs have in common

PLACE = {"--data_dir": "$DATA_DIR", "--precision": "$PRECISION", "--log_interval": 100}
# Dev predictions, for the paired bootstrap
SCORED = {"--do_train": True, "--do_infer": True, "--infer_split": "dev"}
ROWS = {"qqp": 10000, "sst2": 20000}  # training rows; elsewhere all
HELD_OUT = {"qqp": 0.03, "sst2": 0.05}  # share of the whole file: 3,000 rows or so of each; elsewhere 0.1
# Of each of MiniDisc's hops, and half of what the direct student gets; elsewhere 8
HOP_EPOCHS = {"qqp": 5, "sst2": 4}
GRID = "0,10,20,30,40,50,60,70,80,90,95"


def on(task, *, epochs, patience=None, size=32, rows=None):
    """Flags of a stage that trains on a task.  patience: epochs without improvement; None: never stops
    early."""
    rows = rows or ROWS.get(task)
    return {
        "--task_name": task,
        **PLACE,
        "--hold_out": HELD_OUT.get(task, 0.1),
        **({"--max_train_samples": rows} if rows else {}),
        "--num_train_epochs": epochs,
        "--num_patience_epochs": patience or epochs,
        "--per_device_train_batch_size": size,
    }


def teacher(jobs, block, task, *, model, rate, epochs, size=16, scored=4000, name=None, seeds=None):
    """A fine-tuned encoder, and the same sorted, with its grid of sparsities.  name: of the kinds; the
    task's."""
    kind = f"{block}/{name or task}"
    flags = {
        "--model_path": model,
        "--learning_rate": rate,
        **on(task, epochs=epochs, patience=2, size=size),
        **SCORED,
    }
    jobs.add(f"{kind}_teacher", "run_finetuning.py", flags, seeds=seeds)
    rows = {"--max_train_samples": ROWS[task]} if task in ROWS else {}
    flags = {"--task_name": task, **PLACE, "--hold_out": HELD_OUT.get(task, 0.1), **rows}
    flags |= {"--grid": GRID, "--num_scoring_samples": scored}
    del flags["--log_interval"]  # nothing is trained
    flags = {"--model_path": Run(f"{kind}_teacher"), **flags}
    jobs.add(f"{kind}_nested", "run_sparsification.py", flags, seeds=seeds)


def finetuned(jobs, kind, task, model, *, epochs, rates, seeds=SEEDS, rows=None):
    """An encoder fine-tuned until it stops improving."""
    flags = {"--model_path": model, **on(task, epochs=epochs, patience=2, rows=rows), **SCORED}
    jobs.add(kind, "run_finetuning.py", flags, seeds=seeds, rates=rates)


def student(nested, task, part, *, epochs):
    """Flags of a direct distillation."""
    flags = {"--teacher_model_path": nested, "--cache_teacher": True, **on(task, epochs=epochs)}
    return {**flags, "--layer_or_sparsity": part}


def assisted(jobs, block, task, *, nested, target, rates, hop_rates, candidates, via=70, seeds=SEEDS):
    """Direct distillation and MiniDisc, with the same number of updates.

    rates: of the direct student and of the last hop; hop_rates: of the first one.  Each hop's rate is chosen
    on MaxiDisc's path over one assistant, whose hops are runs of their own; MiniDisc takes both.  Tuples are
    tried; a Chosen is taken as it is.
    """
    kind, size, epochs = f"{block}/{task}", f"{target}S", HOP_EPOCHS.get(task, 8)
    direct = {**student(nested, task, size, epochs=2 * epochs), **SCORED}
    if isinstance(rates, Chosen):
        jobs.add(
            f"{kind}_direct_{size}", "run_distillation.py", {**direct, "--learning_rate": rates}, seeds=seeds
        )
        hops = hop_rates
    else:
        jobs.add(f"{kind}_direct_{size}", "run_distillation.py", direct, seeds=seeds, rates=rates)
        first, last = f"{kind}_assistant_{via}S", f"{kind}_over_{via}S_{size}"
        jobs.add(
            first,
            "run_distillation.py",
            student(nested, task, f"{via}S", epochs=epochs),
            seeds=(FIRST,),
            rates=hop_rates,
        )
        flags = {**student(Run(first), task, size, epochs=epochs), **SCORED}
        jobs.add(last, "run_distillation.py", flags, seeds=(FIRST,), rates=rates)
        hops = (Chosen(first), Chosen(last))
    minidisc(
        jobs,
        f"{kind}_minidisc_{size}",
        task,
        nested=nested,
        target=target,
        epochs=epochs,
        hops=hops,
        candidates=candidates,
        seeds=seeds,
    )


def minidisc(jobs, kind, task, *, nested, target, epochs, hops, candidates, seeds, lam=0.2):
    """MiniDisc.  hops: the rate of each."""
    flags = {"--teacher_model_path": nested, "--cache_teacher": True, **on(task, epochs=epochs), **SCORED}
    flags |= {"--target_sparsity": target, "--candidates": candidates, "--lam": lam, "--learning_rates": hops}
    flags["--trunc_sparsity"] = candidates.split(",")[0]  # nothing larger is trained with them
    jobs.add(kind, "run_minidisc.py", flags, seeds=seeds)


# ---- Study B, base-size teacher

BASE = {"mrpc": 4, "stsb": 4, "cola": 3, "rte": 4, "sst2": 2}  # task: epochs of its teacher
BASE_RATES, BASE_HOP_RATES = ("1e-4", "3e-4", "6e-4"), ("5e-5", "1e-4", "3e-4")
LATER_BASE_RATES = ("3e-5", "1e-4", "3e-4")  # of B4: in B1 the lowest was the best


def b1(jobs):
    """90S on MRPC and STS-B."""
    jobs.add("B1/model", "../shared/models/get_all-mpnet-base-v2.sh", {"": "$BASE_MODEL"})
    for task in ("mrpc", "stsb"):
        teacher(jobs, "B1", task, model=Run("B1/model"), rate="3e-5", epochs=BASE[task], scored=2000)
    for task in ("mrpc", "stsb"):
        assisted(
            jobs,
            "B1",
            task,
            nested=Run(f"B1/{task}_nested"),
            target=90,
            rates=BASE_RATES,
            hop_rates=BASE_HOP_RATES,
            candidates="70,80",
        )


def b2(jobs):
    """6 and 4 of 12 layers by KD and TED from one start: MRPC and STS-B."""
    for task, weight in (("mrpc", 100), ("stsb", 50)):
        for layers, interval in ((6, 2), (4, 3)):
            ted(
                jobs,
                "B2",
                f"{task}_{layers}L",
                task,
                teacher=Run(f"B1/{task}_teacher"),
                layers=layers,
                interval=interval,
                epochs=6,
                tokens=("mean",),
                modes={"kd": 0, "ted": weight},
                seeds=SEEDS[:2],
                rates=("3e-5", "6e-5", "1e-4") if layers == 6 else f"B2/{task}_6L",
            )


def b3(jobs):
    """95S; MiniLMv2 to the size of all-MiniLM-L6-v2, fine-tuned beside other starts of that size."""
    for task in ("mrpc", "stsb"):
        hops = (Chosen(f"B1/{task}_assistant_70S"), Chosen(f"B1/{task}_over_70S_90S"))
        assisted(
            jobs,
            "B3",
            task,
            nested=Run(f"B1/{task}_nested"),
            target=95,
            candidates="70,80,90",
            rates=Chosen(f"B1/{task}_direct_90S"),
            hop_rates=hops,
        )
    relations(jobs, "B3", Run("B1/model"), layers=6, hidden=384, steps=3000, rate="6e-4", seeds=(FIRST,))
    starts = {name: Run(f"B3/lm_{name}") for name in ("distilled", "slice", "random")} | {"minilm": "$MODEL"}
    rates = ("5e-5", "1e-4", "2e-4")
    for name, start in starts.items():
        for task, epochs in (("sst2", 3), ("mrpc", 5), ("conll", 3)):
            finetuned(
                jobs,
                f"B3/lm_{name}_{task}",
                task,
                start,
                epochs=epochs,
                rates=rates,
                seeds=SEEDS[:2],
                rows=10000 if task == "sst2" else None,
            )


def b4(jobs):
    """90S on three more tasks; sizes and times as ONNX graphs."""
    for task in ("cola", "rte", "sst2"):
        teacher(jobs, "B4", task, model=Run("B1/model"), rate="3e-5", epochs=BASE[task], scored=2000)
    for task in ("cola", "rte", "sst2"):
        assisted(
            jobs,
            "B4",
            task,
            nested=Run(f"B4/{task}_nested"),
            target=90,
            rates=LATER_BASE_RATES,
            hop_rates=BASE_HOP_RATES,
            candidates="70,80",
            seeds=SEEDS[:2],
        )
    models = {
        "teacher": "B1/mrpc_teacher",
        "90S": "B1/mrpc_direct_90S",
        "95S": "B3/mrpc_direct_95S",
        "6L": "B2/mrpc_6L_kd",
    }
    for name, kind in models.items():
        onnx(jobs, f"B4/mrpc_onnx_{name}", "mrpc", Run(kind, FIRST))


# ---- Study A, small teacher

SMALL_RATES, SMALL_HOP_RATES = ("1e-4", "3e-4", "6e-4"), ("5e-5", "1e-4", "3e-4")
SMALL = {"mrpc": (4, "5e-5", 16), "stsb": (4, "5e-5", 16), "sst2": (2, "5e-5", 32), "conll": (3, "1e-4", 16)}


def a1(jobs):
    """Figure 1 of MiniDisc on QQP: the student over the assistant's scale, three seeds; MiniDisc's
    choices."""
    nested = Run("A1/qqp_nested")
    teacher(jobs, "A1", "qqp", model="$MODEL", rate="5e-5", epochs=4, size=32)
    epochs = HOP_EPOCHS["qqp"]
    direct = {**student(nested, "qqp", "90S", epochs=2 * epochs), **SCORED}
    jobs.add("A1/qqp_direct_90S", "run_distillation.py", direct, seeds=SEEDS, rates=SMALL_RATES)
    middle = 50  # the assistant on whose path the rates of both hops are chosen
    for via in (middle, 80, 70, 60, 40, 30):
        rates = [Chosen(f"A1/qqp_assistant_{middle}S"), Chosen(f"A1/qqp_over_{middle}S_90S")]
        first = student(nested, "qqp", f"{via}S", epochs=epochs)
        last = {**student(Run(f"A1/qqp_assistant_{via}S"), "qqp", "90S", epochs=epochs), **SCORED}
        for kind, flags, rate, tried in (
            (f"A1/qqp_assistant_{via}S", first, rates[0], SMALL_HOP_RATES),
            (f"A1/qqp_over_{via}S_90S", last, rates[1], SMALL_RATES),
        ):
            if via == middle:
                jobs.add(kind, "run_distillation.py", flags, seeds=SEEDS, rates=tried)
            else:
                jobs.add(kind, "run_distillation.py", {**flags, "--learning_rate": rate}, seeds=SEEDS)
    hops = (Chosen(f"A1/qqp_assistant_{middle}S"), Chosen(f"A1/qqp_over_{middle}S_90S"))
    for lam, seeds in ((0.2, SEEDS), (0, (FIRST,)), (0.1, (FIRST,)), (0.3, (FIRST,))):
        minidisc(
            jobs,
            f"A1/qqp_minidisc_lam_{lam}",
            "qqp",
            nested=nested,
            target=90,
            epochs=epochs,
            hops=hops,
            candidates="30,40,50,60,70,80",
            seeds=seeds,
            lam=lam,
        )


def a2(jobs):
    """StarK on QQP, TED on STS-B and QQP, MiniMoE and MiniLMv2 on SST-2 and CoNLL-2003."""
    for part, rates, epochs in ((70, SMALL_HOP_RATES, 6), (90, SMALL_RATES, 8)):
        stark(jobs, f"A2/qqp_{part}S", part, rates=rates, epochs=epochs, rows=5000)
    epochs, rate, size = SMALL["stsb"]
    teacher(jobs, "A2", "stsb", model="$MODEL", rate=rate, epochs=epochs, size=size)
    modes = {"ft": None, "kd": 0, "lwd": 5, "ted": 50, "ted_above_chance": 50}
    common = {"layers": 3, "interval": 2, "epochs": 6, "tokens": ("first", "mean"), "modes": modes}
    ted(
        jobs,
        "A2",
        "stsb_3L",
        "stsb",
        teacher=Run("A2/stsb_teacher"),
        rates=("5e-5", "1e-4", "2e-4"),
        **common,
    )
    common["modes"] = {**modes, "lwd": 20, "ted": 1000, "ted_above_chance": 1000}
    ted(jobs, "A2", "qqp_3L", "qqp", teacher=Run("A1/qqp_teacher"), rates="A2/stsb_3L", rows=5000, **common)
    relations(jobs, "A2", "$MODEL", layers=3, hidden=192, steps=3500, rate="1e-3", seeds=SEEDS)
    for name, more in (("dense", {"--moe": "1,1"}), ("experts", {"--moe": "1,4", "--expert_init": "equal"})):
        flags = corpus_flags("A2", "$MODEL", layers=3, hidden=192) | {
            "--num_heldout_blocks": 256,
            "--student_init": "slice",
        }
        flags |= {"--learning_rate": "1e-3", "--max_steps": 4500, "--eval_interval": 250, **more}
        jobs.add(f"A2/moe_{name}", "run_minimoe.py", flags, seeds=SEEDS)
    starts = [f"A2/lm_{name}" for name in ("distilled", "slice", "random")] + [
        "A2/moe_dense",
        "A2/moe_experts",
    ]
    for start in starts:
        for task, epochs in (("sst2", 5), ("conll", 10)):
            finetuned(
                jobs, f"{start}_{task}", task, Run(start), epochs=epochs, rates=("2e-4", "5e-4", "1e-3")
            )


def a3(jobs):
    """90S and 95S, direct and MiniDisc."""
    for task in ("sst2", "mrpc", "conll"):
        epochs, rate, size = SMALL[task]
        teacher(jobs, "A3", task, model="$MODEL", rate=rate, epochs=epochs, size=size)
    common = {"rates": SMALL_RATES, "hop_rates": SMALL_HOP_RATES}
    for task in ("qqp", "sst2", "stsb", "mrpc", "conll"):
        nested = Run(f"{ {'qqp': 'A1', 'stsb': 'A2'}.get(task, 'A3') }/{task}_nested")
        if task != "qqp":  # in A1
            assisted(jobs, "A3", task, nested=nested, target=90, candidates="50,60,70,80", **common)
        assisted(jobs, "A3", task, nested=nested, target=95, candidates="50,60,70,80,90", via=80, **common)
    for name in ("teacher", "direct_90S", "direct_95S"):
        onnx(jobs, f"A3/mrpc_onnx_{name}", "mrpc", Run(f"A3/mrpc_{name}", FIRST))


# ---- Study V, vocabularies of the small teacher

PIECES = (30522, 16000, 12000, 8000)  # the first one is the whole vocabulary
V1_RATES = ("3e-4", "6e-4", "1.2e-3")


def v1(jobs):
    """Teacher and 90S student, trimmed before fine-tuning; students of fewer pieces take the whole
    vocabulary's rate."""
    for task, seeds in (("mrpc", SEEDS), ("stsb", SEEDS), ("sst2", (FIRST,)), ("conll", (FIRST,))):
        epochs, rate, size = SMALL[task]
        for pieces in PIECES:
            name, model = f"{task}_{pieces}", "$MODEL"
            if pieces != PIECES[0]:
                model = trimmed(jobs, f"V1/{name}_vocabulary", "$MODEL", task, pieces)
            options = {"model": model, "rate": rate, "epochs": epochs, "size": size}
            teacher(jobs, "V1", task, name=name, seeds=seeds, **options)
            flags = student(Run(f"V1/{name}_nested"), task, "90S", epochs=2 * HOP_EPOCHS.get(task, 8))
            kind, whole = f"V1/{name}_direct_90S", f"V1/{task}_{PIECES[0]}_direct_90S"
            if kind == whole:
                jobs.add(kind, "run_distillation.py", {**flags, **SCORED}, seeds=seeds, rates=V1_RATES)
            else:
                flags |= {**SCORED, "--learning_rate": Chosen(whole)}
                jobs.add(kind, "run_distillation.py", flags, seeds=seeds)
            for part in ("teacher", "direct_90S") if len(seeds) > 1 else ():
                onnx(jobs, f"V1/{name}_onnx_{part}", task, Run(f"V1/{name}_{part}", FIRST))


def v2(jobs):
    """12,000 pieces beside B1's whole vocabulary, whose student's rate is taken."""
    model = trimmed(jobs, "V2/mrpc_12000_vocabulary", Run("B1/model"), "mrpc", 12000)
    options = {"model": model, "rate": "3e-5", "epochs": BASE["mrpc"], "scored": 2000}
    teacher(jobs, "V2", "mrpc", name="mrpc_12000", **options)
    flags = student(Run("V2/mrpc_12000_nested"), "mrpc", "90S", epochs=16)
    flags |= {**SCORED, "--learning_rate": Chosen("B1/mrpc_direct_90S")}
    jobs.add("V2/mrpc_12000_direct_90S", "run_distillation.py", flags)
    for part in ("teacher", "direct_90S"):
        onnx(jobs, f"V2/mrpc_12000_onnx_{part}", "mrpc", Run(f"V2/mrpc_12000_{part}"))


def trimmed(jobs, kind, model, task, pieces):
    """The encoder with fewer pieces, chosen by the task's train and Wikipedia; returns where it is."""
    flags = {"--model_path": model, "--task_name": task, "--data_dir": "$DATA_DIR"}
    flags |= {"--corpus": "$DATA_DIR/wiki", "--hold_out": HELD_OUT.get(task, 0.1)}
    flags |= {"--vocabulary_size": pieces, "--max_length": 128, "--no_onnx": True}
    jobs.add(kind, "run_vocabulary.py", flags)
    return Run(kind)


# ---- Study U, text without labels for the small teacher's students

# Task: updates, how often the hold-out rows are scored, what is made of the text
UNLABELLED = {"mrpc": (1000, 100, "pairs.tsv"), "conll": (1600, 200, "sentences.jsonl")}


def u1(jobs):
    """Students with and without it: the same number of updates, and one rate for both sides."""
    jobs.add("U1/text", "results/wikipedia_rows.py", {"--wiki": "$DATA_DIR/wiki", "": "$OUTPUT/U/U1/text"})
    for task, (updates, interval, more) in UNLABELLED.items():
        epochs, rate, size = SMALL[task]
        teacher(jobs, "U1", task, model="$MODEL", rate=rate, epochs=epochs, size=size)
        for part, rate in (("90S", "6e-4"), ("4L", "1e-4")):
            flags = student(Run(f"U1/{task}_nested"), task, part, epochs=updates)
            flags |= {"--max_steps": updates, "--eval_interval": interval, "--learning_rate": rate, **SCORED}
            for name, rows in (
                ("labelled", {}),
                ("more", {"--unlabelled_file": Run("U1/text", inside=more)}),
            ):
                jobs.add(f"U1/{task}_{part}_{name}", "run_distillation.py", {**flags, **rows}, seeds=SEEDS)


# ---- Parts of all


def stark(jobs, kind, part, *, rates, epochs, rows):
    """On QQP, the trial student, which is that of the dense teacher, and StarK's: the same rows, updates,
    start and data order."""
    flags = {
        "--teacher_model_path": Run("A1/qqp_teacher"),
        "--model_type": "kd",
        "--temperature": 2,
        "--cache_teacher": True,
    }
    flags |= {**on("qqp", epochs=epochs, rows=rows), "--student_sparsity": part, **SCORED}
    start = Run("A1/qqp_nested")
    jobs.add(
        f"{kind}_trial",
        "run_distillation.py",
        {**flags, "--student_model_path": start},
        seeds=SEEDS,
        rates=rates,
    )
    flags |= {"--student_model_path": Run(f"{kind}_trial"), "--student_init_path": start, "--do_rewind": True}
    flags |= {"--teacher_sparsities": "10,20,30,40,50", "--num_scoring_samples": 2000}
    jobs.add(
        f"{kind}_stark", "run_stark.py", {**flags, "--learning_rate": Chosen(f"{kind}_trial")}, seeds=SEEDS
    )


def ted(
    jobs,
    block,
    name,
    task,
    *,
    teacher,
    layers,
    interval,
    epochs,
    tokens,
    modes,
    rates,
    seeds=SEEDS,
    rows=None,
):
    """TED's stages and its baselines, all from one start: a fine-tuned student with the filters of stage I.

    tokens: whose states are filtered; the first one's modes are all of them, others get TED alone.  modes:
    {mode: weight of the distance}.  rates: to choose from, or a block/name whose choices are taken.
    """
    kind = f"{block}/{name}"
    data = {"rate": "1e-4" if block[0] == "A" else "6e-5", "flags": on(task, epochs=epochs, rows=rows)}
    base = {**data["flags"], "--learning_rate": data["rate"]}
    part = {"--student_layer": layers, "--layer_choice": "even"}
    jobs.add(
        f"{kind}_start",
        "run_ted.py",
        {"--mode": "ft", "--teacher_model_path": teacher, **part, **base, **SCORED},
    )
    for token in tokens:
        flags = {"--mode": "filters", "--filter_token": token, "--cache_teacher": True, **base}
        jobs.add(
            f"{kind}_teacher_filters_{token}",
            "run_ted.py",
            {**flags, "--model_path": teacher, "--filter_interval": interval},
        )
        jobs.add(
            f"{kind}_start_filters_{token}", "run_ted.py", {**flags, "--model_path": Run(f"{kind}_start")}
        )
    variants = [(mode, tokens[0], weight) for mode, weight in modes.items()]
    variants += [(f"ted_{token}", token, modes["ted"]) for token in tokens[1:]]
    for variant, token, weight in variants:
        mode = variant.split("_")[0]
        flags = {
            "--mode": mode,
            "--student_model_path": Run(f"{kind}_start_filters_{token}"),
            "--student_init": "stage1",
        }
        if mode != "ft":
            flags |= {"--teacher_model_path": Run(f"{kind}_teacher_filters_{token}"), "--kl_alpha": 20}
        if weight:
            flags["--mse_alpha"] = weight
        if mode == "lwd":
            flags["--teacher_filter_interval"] = interval
        if variant == "ted_above_chance":
            flags["--filters"] = "above_chance"
        flags |= {**data["flags"], **SCORED}
        if isinstance(rates, str) or variant != mode:
            source = Chosen(f"{rates if isinstance(rates, str) else kind}_{mode}")
            jobs.add(f"{kind}_{variant}", "run_ted.py", {**flags, "--learning_rate": source}, seeds=seeds)
        else:
            jobs.add(f"{kind}_{variant}", "run_ted.py", flags, seeds=seeds, rates=rates)


def corpus_flags(block, model, *, layers, hidden):
    """Flags of a student distilled from a corpus."""
    flags = {
        "--teacher_model_path": model,
        "--corpus": Run(f"{block}/corpus"),
        "--layer": layers,
        "--hidden": hidden,
    }
    return {**flags, "--precision": "$PRECISION", "--log_interval": 100, "--per_device_train_batch_size": 16}


def relations(jobs, block, model, *, layers, hidden, steps, rate, seeds):
    """MiniLMv2's student, and the same as it starts: rows and columns of the teacher, random weights."""
    jobs.add(
        f"{block}/corpus", "run_corpus.py", {"--input": "$DATA_DIR/wiki", "--tokenizer_name_or_path": model}
    )
    flags = corpus_flags(block, model, layers=layers, hidden=hidden)
    distilled = {
        "--student_init": "slice",
        "--learning_rate": rate,
        "--max_steps": steps,
        "--eval_interval": 250,
    }
    jobs.add(f"{block}/lm_distilled", "run_minilmv2.py", {**flags, **distilled}, seeds=seeds)
    for start in ("slice", "random"):  # one update that moves nothing
        nothing = {"--student_init": start, "--learning_rate": "1e-30", "--weight_decay": 0, "--max_steps": 1}
        jobs.add(f"{block}/lm_{start}", "run_minilmv2.py", {**flags, **nothing}, seeds=seeds)


def onnx(jobs, kind, task, model):
    """Size and times, in torch and as ONNX graphs in fp32 and int8, on one thread."""
    flags = {
        "--task_name": task,
        "--data_dir": "$DATA_DIR",
        "--use_cpu": True,
        "--model_path": model,
        "--num_threads": 1,
    }
    jobs.add(kind, "run_evaluation.py", {**flags, "--export": "onnx", "--export_dir": Beside("export")})


def all_jobs() -> Jobs:
    """The whole list, block after block."""
    jobs = Jobs()
    for add in (b1, a1, a2, b2, b3, a3, b4, v1, v2, u1):
        add(jobs)
    return jobs
