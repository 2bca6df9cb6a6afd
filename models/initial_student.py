"""The state in which a student starts, where several trainings of a run start alike (StarK's rewinding)."""

from models.saving import save_anew
from utils import checkpoints, distributed, files
from utils.errors import RunError


def save_initial_student(student, run, *, tokenizer):
    """Write the state, once in a run, with its hash."""
    folder, known = run.state("start"), run.state("start.json")
    if distributed.any_of(not known.exists()):
        save_anew(student, folder, tokenizer=tokenizer)
        if distributed.is_main():
            files.write_json(known, {"sha256": checkpoints.fingerprint(folder)})
    distributed.barrier()


def initial_student_folder(run):
    """The folder of the state.  Raises RunError where it is not what was saved."""
    folder, known = run.state("start"), files.read_json(run.state("start.json"))["sha256"]
    found = checkpoints.fingerprint(folder)
    if found != known:
        raise RunError(
            f"{folder}: the student's initial state has changed since it was saved (SHA-256 {found[:9]}, "
            f"expected {known[:9]}); this rewinding could not be compared with the others; --overwrite "
            "starts the run afresh"
        )
    return folder
