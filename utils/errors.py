"""Errors that a user can cause.  They are printed without a traceback and end the script with exit code 2."""


class UserError(ValueError):
    """Something that the user can mend: says what was found, what was expected, and what to do."""


class FlagError(UserError):
    """One or more flags are wrong, or contradict each other, the task or a checkpoint."""


class DataError(UserError):
    """A data file is missing or malformed.  The message begins with file and line: `path:12: ...`."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, of another task, or of another structure than the stage needs."""


class RunError(UserError):
    """A run folder cannot be used as asked: settings changed, another kind of run, training diverged."""
