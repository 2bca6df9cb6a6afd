"""Files behind URLs: downloaded once, kept where the datasets library keeps its downloads, and compared with
what the server has now.

Beside a kept copy lies NAME.origin.json: when it was fetched, and what the server said of it then.
"""

import functools
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from utils import files
from utils.errors import DataError
from utils.logs import logger

_TIMEOUT = 30  # seconds without an answer
_PATIENCE = 10  # where only the date is asked for
_COMPARED = ("ETag", "Last-Modified", "Content-Length")
_ORIGIN = {"fetched": str, "headers": dict}
_FAILURES = (OSError, ValueError, http.client.HTTPException)


def is_url(word: str) -> bool:
    """Whether a word is the URL of a file."""
    return word.startswith(("http://", "https://"))


@functools.cache  # asked once in a process
def local_file(url: str) -> Path:
    """The file behind a URL: the kept copy, of which the log says from when it is and whether the server has
    another one by now; else it is downloaded.  Raises DataError."""
    target = _place(url)
    if not target.exists():
        return fetch(url)
    entry = target.stat()  # all that is known of what earlier versions have fetched
    origin = {"fetched": _date(entry.st_mtime), "headers": {"Content-Length": str(entry.st_size)}}
    if _origin_of(target).exists():
        advice = f"remove it and {target}, to download it again"
        origin = files.read_object(_origin_of(target), _ORIGIN, error=DataError, advice=advice)
    logger.info("%s: the copy that was fetched on %s is used: %s", url, origin["fetched"], target)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE) as answer:
            now = _said(answer)
    except _FAILURES as error:
        logger.info("%s: whether it has changed since cannot be found out (%s)", url, _reason(error))
        return target
    changed = [
        f"{name} {origin['headers'][name]}, now {now[name]}"
        for name in _COMPARED
        if name in now and now[name] != origin["headers"].get(name, now[name])
    ]
    if changed:
        logger.warning(
            "%s: has changed since (%s); the kept copy is used all the same; run_corpus.py --refetch takes "
            "the new one",
            url,
            "; ".join(changed),
        )
    return target


def fetch(url: str) -> Path:
    """Download the file behind a URL, in the place of a copy that is kept.  Raises DataError."""
    target = _place(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.new_file(target) as aside:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, open(aside, "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
                headers = _said(answer)
            size, expected = aside.stat().st_size, headers.get("Content-Length", "")
            if expected and size != int(expected):
                raise DataError(f"{url}: the download ended after {size} of {expected} bytes; try again")
        origin = {"url": url, "fetched": _date(time.time()), "headers": headers}
        files.write_json(_origin_of(target), origin)
    except DataError:
        raise
    except _FAILURES as error:
        raise DataError(
            f"{url}: cannot be downloaded ({_reason(error)}); expected a URL that answers"
        ) from error
    logger.info("%s: downloaded to %s", url, target)
    return target


def _place(url):
    from datasets.config import DOWNLOADED_DATASETS_PATH

    try:
        name = Path(urllib.parse.urlparse(url).path).name
    except ValueError as error:
        raise DataError(f"{url}: no URL ({error}); expected http://host/file") from error
    return Path(DOWNLOADED_DATASETS_PATH) / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"


def _origin_of(target):
    return target.with_name(f"{target.name}.origin.json")


def _said(answer):
    return {name: answer.headers[name] for name in _COMPARED if answer.headers[name] is not None}


def _date(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _reason(error):
    said = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
    return " ".join(str(said).split())
