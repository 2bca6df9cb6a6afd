"""The command behind `bash results/run.sh`: `python -m results [name ...] [--until MINUTES] [--predict]`."""

import argparse
import difflib
import math
import signal
import sys
from collections import Counter

from results import jobs as listed
from results import prediction, records
from results.runner import INTERRUPTED, Failed, Runner, Stopped
from utils import files


def parse(argv=None):
    """The arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "name",
        nargs="*",
        help="a study (A), a block (A1), a kind (A1/qqp_teacher), a job, or all; none: the list",
    )
    parser.add_argument(
        "--until",
        type=float,
        default=math.inf,
        metavar="MINUTES",
        help="stop after so many; the next call continues",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="NUMBER",
        help="jobs that run at a time; on one GPU as many as there are cores and memory (default: 1)",
    )
    parser.add_argument(
        "--predict",
        action="store_true",
        help="run 50 updates of each kind; write predicted.json of the block",
    )
    return parser.parse_args(argv)


def chosen(jobs, names) -> list:
    """The jobs that names mean, in the list's order.  Raises Failed for a name that means none."""
    found = []
    for name in names:
        wanted = [job for job in jobs.values() if name in ("all", job.study, job.block, job.kind, job.name)]
        if not wanted:
            known = [
                *dict.fromkeys(
                    word for job in jobs.values() for word in (job.study, job.block, job.kind, job.name)
                )
            ]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise Failed(
                f"{name}: no such study, block or job" + (f"; is it {', '.join(near)}?" if near else "")
            )
        found += wanted
    return [job for job in jobs.values() if job in found]


def listing(runner) -> str:
    """The blocks with their hours, the kinds with the state of their jobs."""
    lines = []
    for block in dict.fromkeys(job.block for job in runner.jobs.values()):
        inside = [job for job in runner.jobs.values() if job.block == block]
        done = [job for job in inside if runner.is_done(job)]
        spent = sum(records.hours(runner.record(job)) for job in done if job.is_run)
        predicted = runner.kept / block[0] / block / "predicted.json"
        hours = (
            f"{files.read_json(predicted)['hours']:.1f} h predicted"
            if predicted.exists()
            else "not predicted"
        )
        title, share = listed.BLOCKS.get(block, ("", 0))
        lines.append(
            f"{block}  {title}: {len(done)} of {len(inside)} done, {spent:.1f} h used, {hours}, share "
            f"{share} h"
        )
        for kind in dict.fromkeys(job.kind for job in inside):
            states = Counter(runner.state(job) for job in runner.jobs.of(kind))
            lines.append(
                f"    {kind:<36} {', '.join(f'{number} {state}' for state, number in states.items())}"
            )
    return "\n".join(lines)


def main(argv=None, jobs=None) -> int:
    """Run what the arguments name; returns the exit code: 0; 1 where a job failed; 2 for a wrong name;
    INTERRUPTED."""
    args, jobs = parse(argv), listed.all_jobs() if jobs is None else jobs
    until, processes = 60 * args.until, args.processes
    if args.predict:
        runner = prediction.Predictor(jobs, until=until)
    else:
        runner = Runner(jobs, until=until, processes=processes)
    if not args.name:
        print(listing(runner))
        return 0
    try:
        wanted = chosen(jobs, args.name)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, runner.stop)
    try:
        problems = runner.predict(wanted) if args.predict else runner.make(wanted)
    except Stopped:
        print("stopped; the same command continues", file=sys.stderr)
        return INTERRUPTED
    for problem in dict.fromkeys(problems.values()):
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
