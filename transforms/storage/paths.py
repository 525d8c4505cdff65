"""What a path is, and the one door to Beam's file systems."""

import errno
import importlib
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtdscan.transforms.errors import RtdscanError, StoreError, UnservedError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ADVICE = {
    "gs://": 'pip install "apache-beam[gcp]"',
    "azfs://": 'pip install "apache-beam[azure]"',
    "hdfs://": 'pip install "apache-beam[hadoop]", a Beam runner, and hdfs_host, hdfs_port, hdfs_user under `beam`',
    "gcs://": "did you mean gs://?",
    **dict.fromkeys(("s3a://", "s3n://"), "did you mean s3://?"),
    **dict.fromkeys(("az://", "abfs://", "abfss://"), "did you mean azfs://ACCOUNT/CONTAINER/...?"),
}
"""What helps where Beam has no file system for a scheme: a package, or Beam's own name."""

_HINTS = {
    errno.ENOSPC: "; free some space and run it again",
    errno.EDQUOT: "; free some space and run it again",
    errno.EFBIG: "; raise the limit on the size of files (ulimit -f) and run it again",
    errno.EACCES: "; check its permissions and those of its folder",
    errno.EPERM: "; check its permissions and those of its folder",
    errno.EROFS: "; choose a folder that can be written to",
}


def scheme(path: str) -> str:
    """What a path begins with up to `://`, that included; empty where there is nothing of the kind."""
    found = _SCHEME.match(path)
    return found[0] if found else ""


def is_local(path: str) -> bool:
    """Whether the path is served by the operating system."""
    return scheme(path) in ("", "file://")


def local(path: str) -> Path:
    """A local path without `file://`."""
    return Path(path.removeprefix("file://"))


def join(base: str, *parts: str) -> str:
    """Parts below a base, `/` between them; empty parts are left out."""
    kept = [part.strip("/") for part in parts if part.strip("/")]
    stem = base if base.endswith("://") else base.rstrip("/")
    if not kept:
        return stem or base
    return ("" if not base else stem if stem.endswith("://") else f"{stem}/") + "/".join(kept)


def printable(path: str) -> str:
    r"""A local path with the bytes of a name that are not UTF-8 as `\xff`: it can be printed, encoded and stored."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def remote(verb: str, path: str, call: Callable[[Any], Any]) -> Any:
    """Call Beam's FileSystems.

    Args:
        verb: What is being done, for the error message.
        path: To what.
        call: A function of the class FileSystems.

    Raises:
        UnservedError: Beam has no file system for the scheme, or one that lacks a package or options.
        StoreError: Whatever else went wrong, with the path.
    """
    import_beam()
    from apache_beam.io.filesystems import FileSystems

    if FileSystems._pipeline_options is None:  # before a pipeline was made, and in a worker pool's workers
        from apache_beam.options.pipeline_options import PipelineOptions

        FileSystems.set_options(PipelineOptions([]))
    if scheme(path) == "s3://":
        from rtdscan.transforms.storage import s3

        s3.install()
    try:
        return call(FileSystems)
    except Exception as error:  # the stores' clients raise types of their own
        _check_served(FileSystems, path)
        raise StoreError(str(failure(verb, path, _innermost(error)))) from error


def _check_served(systems: Any, path: str) -> None:
    """See that there is a file system for a path that could not be used."""
    try:
        systems.get_filesystem(path)
    except Exception as error:  # ValueError, BeamIOError around what a class raised
        advice = _ADVICE.get(scheme(path).lower(), "expected a local path, s3://, gs://, azfs:// or hdfs://")
        raise UnservedError(f"{printable(path)}: Beam has no file system for it here; {advice}") from error


def import_beam() -> None:
    """Import Beam without its warning that BigQuery, which nobody asked for, can't be had (2.77, without Google's)."""
    if "apache_beam" in sys.modules:
        return
    logging.disable(logging.WARNING)
    try:
        importlib.import_module("apache_beam")
    finally:
        logging.disable(logging.NOTSET)


def is_stores(error: Exception) -> bool:
    """Whether a store's client raised it, while a file was read, say."""
    return type(error).__module__.partition(".")[0] in ("apache_beam", "botocore", "google", "requests", "urllib3")


def _innermost(error: Exception) -> Exception:
    """What Beam wrapped, of one path or of many."""
    details = getattr(error, "exception_details", None)
    return next((one for one in details.values() if isinstance(one, Exception)), error) if details else error


def escape(path: str) -> str:
    """A path as a pattern of Beam's that matches only itself."""
    return re.sub(r"([\[*?])", r"[\1]", path)


def failure(verb: str, path: object, error: Exception) -> RtdscanError:
    """The error that names path and cause in one line, to be raised from the cause."""
    said = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error) or type(error).__name__
    cause = " ".join(str(said).split())
    hint = _HINTS.get(getattr(error, "errno", None) or 0, "")
    return RtdscanError(f"cannot {verb} {printable(str(path))}: {cause}{hint}")
