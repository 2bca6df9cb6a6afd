"""The parser, which reports every problem in one message, and the types of flags.  Nothing here imports
torch."""

import argparse
import difflib
import importlib.util
import math
import re
import sys
from pathlib import Path

from utils.errors import FlagError
from utils.flags import checks, own_task, paths
from utils.printable import say

# Flags that may change between two starts of the same run: they alter neither the data nor the weights.
NOT_SETTINGS = {
    "output_dir",
    "overwrite",
    "debug",
    "log_interval",
    "report_to",
    "dry_run",
    "do_train",
    "do_test",
    "do_infer",
    "save_minutes",
    "stage",
    "hops_dir",
    "num_workers",
    "infer_split",
    "refetch",
    "gradient_checkpointing",
    "cache_dir",
}
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what Python reads such bytes as


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that collects problems instead of stopping at the first one."""

    def __init__(self, doc: str):
        usage = "%(prog)s [--flag value ...]"  # all of them follow, by group
        super().__init__(usage=usage, description=doc, formatter_class=_Formatter, allow_abbrev=False)
        self.problems = []
        self.required = []
        self.idle = {}  # {name in the namespace: why the flag has no meaning here}
        self.given = set()  # names in the namespace of the flags that the command line has
        self.own_task = None  # of own_task.own_task(), where a task may be the user's own

    def group(self, title):
        """The group of that title, which may be there already."""
        there = (group for group in self._action_groups if group.title == title)
        return next(there, None) or self.add_argument_group(title)

    def add_argument_group(self, *args, **kwargs):
        """A titled group whose required flags are collected too."""
        group = super().add_argument_group(*args, **kwargs)
        add = group.add_argument

        def add_argument(*names, required=False, **options):
            action = add(*names, **options)
            if required:
                self.required.append(action)
            return action

        group.add_argument = add_argument
        return group

    def _get_values(self, action, arg_strings):
        self.given.add(action.dest)  # of a default argparse asks for _get_value() alone
        return super()._get_values(action, arg_strings)

    def _get_value(self, action, arg_string):
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            self.problems.append(str(error).removeprefix("argument "))
            default = action.default
            return super()._get_value(action, default) if isinstance(default, str) else default

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices and value != action.default:
            choices = ", ".join(map(str, action.choices))
            near = difflib.get_close_matches(str(value), map(str, action.choices), n=1, cutoff=0.7)
            meant = f"; is {near[0]} meant?" if near else ""
            self.problems.append(
                f"{'/'.join(action.option_strings)}: {value!r} is not one of {choices}{meant}"
            )

    def error(self, message):
        """A malformed command line (a flag without its value): nothing after it can be trusted."""
        raise FlagError(
            "\n".join(
                [
                    "the flags cannot be used:",
                    *(f"  {p}" for p in [*self.problems, message.removeprefix("argument ")]),
                ]
            )
        )


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def _get_default_metavar_for_optional(self, action):
        """What stands for a flag's value: the flag has said the rest."""
        return "N" if action.type in _NUMBERS else "X"

    def _get_help_string(self, action):
        """The help and the default, which stands in the place of one that a group's text names: a script may
        have its own."""
        if any(action.default is nothing for nothing in (None, False, argparse.SUPPRESS)):
            return action.help
        return _DEFAULT.sub("", action.help) + " (default: %(default)s)"


_DEFAULT = re.compile(r" \(default: [^()]*\)$")


def _number(kind, low, high, low_open, described):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if high == _MOST < value:
            raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST}; expected {described}")
        if not (low <= value <= high) or (low_open and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not {described}")
        return value

    return parse


_MOST = 10**9  # more is a slip of the hand, and fits in no memory
positive_int = _number(int, 1, _MOST, False, "a whole number of at least 1")
count = _number(int, 0, _MOST, False, "a whole number of at least 0")
seed = _number(int, 0, 2**63 - 1, False, "a whole number from 0 to 9223372036854775807")
threads = _number(int, 1, 4096, False, "a whole number from 1 to 4096")
samples = _number(int, 1, 10**6, False, "a whole number from 1 to 1000000")
width = _number(int, 1, 65536, False, "a whole number from 1 to 65536")
moderate = _number(float, 1e-4, 1e4, False, "a number from 0.0001 to 10000")
weight = _number(float, 0, 1e6, False, "a number from 0 to 1000000")
below_one = _number(float, 0, math.nextafter(1, 0), False, "a number of at least 0 and below 1")
positive = _number(float, 0, sys.float_info.max, True, "a number above 0")
non_negative = _number(float, 0, sys.float_info.max, False, "a number of at least 0")
fraction = _number(float, 0, 1, False, "a number from 0 to 1")
percent = _number(float, 0, 100, False, "a percentage from 0 to 100")
finite = _number(float, -sys.float_info.max, sys.float_info.max, False, "a number")
_NUMBERS = {
    positive_int,
    count,
    seed,
    threads,
    samples,
    width,
    moderate,
    weight,
    below_one,
    positive,
    non_negative,
    fraction,
    percent,
    finite,
}


def switch(text: str) -> bool:
    """A flag type, for `nargs="?", const=True`: `true` or `false`, as some programs write what has no value
    here."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def idle(parser, why: str, *names):
    """Declare a flag of the papers' scripts that has no meaning here: it is accepted, and a line says why it
    changes nothing."""
    action = parser.add_argument(*names, nargs="?", const="", help=argparse.SUPPRESS)
    parser.idle[action.dest] = f"{names[0]}: has no meaning here: {why}"


def parser(doc: str, *groups) -> Parser:
    """A parser with the shared groups in it.  doc: the script's docstring, shown by --help."""
    result = Parser(doc)
    for group in groups:
        group(result)
    return result


def resolve(parser: Parser, argv=None, *, stage: str, name, check=None) -> argparse.Namespace:
    """Parse, check everything that can be checked without a model, and fill in what follows from the rest.

    stage: the first folder below outputs/.  name(args): the second.  check(args): yields what else is wrong,
    as strings; it is asked whatever the parser has found, so a value may be missing where a flag is required,
    and None where it was no value. Raises FlagError with all problems in one message.
    """
    args, unknown = parser.parse_known_args(argv)
    known = [option for action in parser._actions for option in action.option_strings]
    problems = parser.problems
    problems += [
        f"{word!a}: not UTF-8; rename the file, or, if the locale is another one, set PYTHONUTF8=1"
        for word in (sys.argv[1:] if argv is None else argv)
        if _NOT_UTF8.search(str(word))
    ]
    problems += [_unknown(flag, known) for flag in unknown if flag.startswith("-")]
    problems += [f"{word!r}: belongs to no flag" for word in unknown if not word.startswith("-")]
    problems += [
        f"{'/'.join(a.option_strings)}: required" for a in parser.required if getattr(args, a.dest) is None
    ]
    for dest, why in parser.idle.items():
        if vars(args).pop(dest) is not None:
            say(f"note: {why}")
    args.stage = stage
    if hasattr(args, "use_fp16"):
        if args.use_fp16 and args.precision not in (None, "fp16"):
            problems.append(f"--use_fp16 contradicts --precision {args.precision}")
        args.precision = "fp16" if args.use_fp16 else args.precision
        del args.use_fp16
    if getattr(args, "report_to", "none") != "none" and importlib.util.find_spec(args.report_to) is None:
        extra = "-r requirements-tensorboard.txt" if args.report_to == "tensorboard" else args.report_to
        problems.append(f"--report_to {args.report_to}: not installed (pip install {extra})")
    if getattr(args, "max_steps", None) is not None and "num_train_epochs" not in parser.given:
        args.num_train_epochs = None  # the default is no limit to what was asked for
    if hasattr(args, "do_train") and not (args.do_test or args.do_infer):
        args.do_train = True
    if getattr(args, "shard", False):
        problems += checks.check_shard(args)
    if getattr(args, "attn_implementation", None) == "flash_attention_2":
        problems += checks.check_flash_attention(args)
    if getattr(args, "gradient_checkpointing", False):
        problems += checks.check_gradient_checkpointing(args)
    unusable = list(paths.problems(args))
    problems += own_task.resolve(args, parser)
    if check is not None and not unusable:
        problems += list(check(args))
    problems += unusable
    if args.output_dir is None and not problems:
        args.output_dir = str(Path("outputs") / stage / name(args))
    if hasattr(args, "cache_teacher"):
        problems += checks.settle_cache(args)
    if not problems:
        problems += list(paths.inside_the_run(args))
    if problems:
        raise FlagError(
            "\n".join(["the flags cannot be used:", *(f"  {problem}" for problem in dict.fromkeys(problems))])
        )
    return args


# What other programs call them, too short to be near
_SHORT = {
    "--lr": "--learning_rate",
    "--epochs": "--num_train_epochs",
    "--batch_size": "--per_device_train_batch_size",
}


def _unknown(flag, known):
    name = flag.partition("=")[0]
    near = (
        [_SHORT[name]]
        if _SHORT.get(name) in known
        else difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    )
    return f"{flag}: no such flag; " + (f"is {near[0]} meant?" if near else "see --help")


def with_flag_name(args, message: str) -> str:
    """A message that begins with the value of a path flag, with the flag's name in front."""
    for flag, values in paths.of(args).items() if args is not None else ():
        if flag.endswith("_path") and any(path and message.startswith(path) for path in values):
            return f"--{flag}: {message}"
    return message


def settings(args) -> dict:
    """The flags that make the run what it is: a run is continued only if they have not changed."""
    return {key: value for key, value in sorted(vars(args).items()) if key not in NOT_SETTINGS}


def percentages(text: str) -> list[float]:
    """A flag type: comma-separated sparsities in percent, `80,90` or `80,90S`, ascending and without
    repeats."""
    values = sorted({percent(part.strip().removesuffix("S")) for part in text.split(",") if part.strip()})
    if not values or values[-1] >= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected percentages below 100, like 0,50,90")
    return [int(value) if value == int(value) else value for value in values]


def candidates(text: str):
    """A flag type: `tens`, `grid`, or comma-separated sparsities in percent."""
    return text if text in ("tens", "grid") else percentages(text)


def rates(text: str) -> list[float]:
    """A flag type: comma-separated learning rates, `6e-4,3e-4`."""
    return [positive(part.strip()) for part in text.split(",")]


def layer_or_sparsity(text: str) -> str:
    """A flag type: `4L` (keep 4 layers) or `90S` (drop 90% of heads and neurons), in one spelling."""
    number, unit = text[:-1], text[-1:].upper()
    try:
        if unit == "L":
            return f"{positive_int(number)}L"
        if unit == "S":
            return f"{percent(number):g}S"
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    raise argparse.ArgumentTypeError(
        f"{text!r}: expected a number with L (layers kept, 4L) or S (percent dropped, 90S)"
    )


def path_of_students(text: str) -> list[str]:
    """A flag type: `80,90S` or `6,4L` or `80S,6L`; a number without a unit has that of the one after it."""
    parts = [part.strip() for part in text.split(",")]
    for index in reversed(range(len(parts) - 1)):
        if parts[index] and parts[index][-1].upper() not in "LS":
            parts[index] += parts[index + 1][-1:]
    return [layer_or_sparsity(part) for part in parts]
