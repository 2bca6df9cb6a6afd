"""Files as streams of bytes, packed or not, and their lines as text.  Nothing here imports torch."""

import bz2
import contextlib
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path

from utils.errors import DataError

# What reading a file can end with that is damaged, or none of its format
UNREADABLE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, OSError)


def open_bytes(path):
    """A file as a binary stream, unpacked where its name ends with .gz, .bz2, .xz, .zst or .zip (of one
    file).

    Raises DataError for a .zip of none or several files, else one of UNREADABLE.
    """
    return _OPENERS.get(Path(path).suffix.lower(), _open_plain)(path)


def unpacked_name(path) -> str:
    """The name of a file without the ending that says how it is packed: new.csv for a/new.csv.gz."""
    path = Path(path)
    return path.stem if path.suffix.lower() in _OPENERS else path.name


def lines(path, stream):
    """Yield (number, text) of a binary stream's lines, without line ends (LF or CRLF), byte order mark and
    blank lines at the end.

    Only a line feed ends a line: other characters that Python counts as line ends are text.
    path: that messages name.  Raises DataError for other bytes than UTF-8's, and what open_bytes() does.
    """
    blank = []  # lines that may be the end of the file
    for number, data in enumerate(stream, 1):
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; expected a "
                "UTF-8 text file; convert it, for instance with iconv -f latin1 -t utf-8"
            ) from error
        if text:
            yield from ((line, "") for line in blank)
            blank = []
            yield number, text
        else:
            blank.append(number)


@contextlib.contextmanager
def reading(path):
    """A context in which open_bytes() of a path is read: what cannot be read is a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; datasets/README.md says where to get those of the built-in tasks"
        ) from None
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise DataError(
            f"{path}: cannot be read ({reason}); expected a whole file, packed as its name says"
        ) from error


def _open_plain(path):
    return open(path, "rb")


def _open_zstd(path):
    import pyarrow

    Path(path).stat()
    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


def _open_zip(path):
    archive = zipfile.ZipFile(path)
    names = [
        name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")
    ]
    if len(names) != 1:
        archive.close()
        raise DataError(f"{path}: found {len(names)} files in it; expected one; pack each file alone")
    if archive.getinfo(names[0]).flag_bits & 1:
        archive.close()
        raise DataError(f"{path}: found a file with a password; expected one without; unpack it")
    file = archive.open(names[0])
    archive.close()  # the file keeps it open
    return file


_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zstd, ".zip": _open_zip}
