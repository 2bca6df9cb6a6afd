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

_UTF_16 = "UTF-16 text; convert it: iconv -f utf-16 -t utf-8"
_OTHERS = {  # how files begin that are no UTF-8 text: what they are
    b"\xff\xfe\0\0": "UTF-32 text; convert it: iconv -f utf-32 -t utf-8",
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    **{
        start: f"a packed file; rename it, so that its name ends with {ending}"
        for start, ending in (
            (b"\x1f\x8b", ".gz"),
            (b"BZh9", ".bz2"),
            (b"\xfd7zXZ\0", ".xz"),
            (b"\x28\xb5\x2f\xfd", ".zst"),
            (b"PK\3\4", ".zip"),
        )
    },
    b"PAR1": "a Parquet file; rename it, so that its name ends with .parquet",
    b"%PDF": "a PDF file; export its text",
}
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
        text = decoded(path, number, data).removesuffix("\n").removesuffix("\r")
        if text:
            yield from ((line, "") for line in blank)
            blank = []
            yield number, text
        else:
            blank.append(number)


def decoded(path, number: int, data: bytes) -> str:
    """The text of a file's line, with its line end, without a byte order mark.  Raises DataError, which says
    what the file is instead, as far as its first bytes tell."""
    if number == 1:
        other = next((said for start, said in _OTHERS.items() if data.startswith(start)), None)
        if other is None and b"\0" in data:
            other = (
                "bytes of value 0, as in a binary file or in UTF-16; iconv -f utf-16le -t utf-8 converts it"
            )
        if other is None and b"\r" in data.rstrip(b"\r") and not data.endswith(b"\n"):
            other = "one line, with carriage returns in it; convert the line ends: tr '\\r' '\\n'"
        if other is not None:
            raise DataError(f"{path}:1: found {other}; expected a UTF-8 text file")
    try:
        return data.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; expected a "
            "UTF-8 text file; save it as one (in Excel: CSV UTF-8), or convert it: "
            "iconv -f windows-1252 -t utf-8"
        ) from error


@contextlib.contextmanager
def reading(path):
    """A context in which open_bytes() of a path is read: what cannot be read is a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; correct the path") from None
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
