"""A script on a machine that refuses something, or that kills it:

    python tests/constrained.py umask=027 file_size=100000 cwd=FOLDER tmp=FOLDER stdout=/dev/full \\
        -- run_ted.py ...
    python tests/constrained.py stdout= -- run_ted.py ...          # closed
    python tests/constrained.py kill=12 below=FOLDER -- run_ted.py ...

file_size: the largest file, in bytes (a full disk, for those who cannot mount a small one).  kill: SIGKILL
comes instead of the n-th operation that changes what lies below a folder: opening to write, renaming, making,
removing, linking.  What libraries in Rust or C++ write is not counted.
"""

import os
import resource
import runpy
import signal
import sys
import tempfile

_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree"}


def kill_at(number, below):
    """Die of SIGKILL when the number-th operation below a folder is about to happen."""
    left = [number]

    def watch(event, arguments):
        if event == "open":
            changes = bool(arguments[2]) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            changes = event in _CHANGES
        if (
            changes
            and isinstance(arguments[0], str | os.PathLike)
            and os.path.abspath(arguments[0]).startswith(below)
        ):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main(words):
    """Constrain this process, then run the script."""
    end = words.index("--")
    given, (script, *flags) = dict(word.split("=", 1) for word in words[:end]), words[end + 1 :]
    if "umask" in given:
        os.umask(int(given["umask"], 8))
    if "file_size" in given:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(given["file_size"]),) * 2)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if given.get(name):
            os.dup2(os.open(given[name], os.O_WRONLY), descriptor)
        elif name in given:
            os.close(descriptor)
            setattr(sys, name, None)  # what the interpreter finds then
    path = os.path.abspath(script)
    if "cwd" in given:
        os.chdir(given["cwd"])
    if "tmp" in given:
        os.environ["TMPDIR"] = tempfile.tempdir = given["tmp"]
    if "kill" in given:
        kill_at(int(given["kill"]), given["below"])
    sys.argv, sys.path[0] = [path, *flags], os.path.dirname(path)
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
