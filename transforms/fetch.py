"""Brings a model to this machine: from the Hugging Face hub, or from any file system that `storage` knows."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from rtdscan.transforms.errors import RtdscanError, UserError

if TYPE_CHECKING:
    from rtdscan.transforms import storage

MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "bundle.json",
    "README.md",
    "lexicon*",
    "int8*",
    "embedding.safetensors",
    "generator/config.json",
    "generator/model.safetensors",
)
"""What is fetched; a repository may hold other formats of the same weights, gigabytes of them."""

_HUB_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)@(?P<revision>[\w./-]+)")


def is_url(model: str) -> bool:
    """Whether it names a file system other than this machine's by its scheme, such as s3://bucket/model."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", model) is not None and not model.startswith("file://")


def is_hub_name(model: str) -> bool:
    """Whether it reads NAME@REVISION or OWNER/NAME@REVISION."""
    return _HUB_NAME.fullmatch(model) is not None


def cache_directory() -> Path:
    """Where fetched models are kept: $RTDSCAN_CACHE, else the user's cache directory."""
    if chosen := os.environ.get("RTDSCAN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtdscan"


def fetch_hub(model: str) -> Path:
    """Download NAME@REVISION from the Hugging Face hub, or find it in the hub's own cache.

    Raises:
        UserError: It is not there, or the hub can't be reached.
    """
    parts = _HUB_NAME.fullmatch(model)
    if parts is None:
        raise UserError(f"model {model}: expected NAME@REVISION")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(parts["name"], revision=parts["revision"], allow_patterns=list(MODEL_FILES)))
    except Exception as error:  # its own, httpx's and OSError, changing with its version
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"model {model}: can't be had from the Hugging Face hub ({reason}); without a network, copy it here and "
            "give its directory"
        ) from error


def fetch_url(url: str) -> Path:
    """Copy a model directory from an object store, once for each content.

    Args:
        url: The directory, such as s3://bucket/models/mine.

    Returns:
        A directory below `cache_directory`, named after the digest of the listing (names, sizes, versions): a model
        that changed is another directory. It is there as a whole or not at all, whoever else fetches it meanwhile.

    Raises:
        UserError: There is nothing, or it can't be read or kept.
    """
    from rtdscan.transforms import storage

    try:
        entries = [entry for entry in storage.list_files(url) if _is_model_file(entry.relative)]
        if not entries:
            raise UserError(f"model {url}: there is no such directory, or it holds none of a model's files")
        listing = [url.rstrip("/"), *((entry.relative, entry.size, entry.version) for entry in entries)]
        digest = hashlib.blake2b(json.dumps(listing).encode(), digest_size=16).hexdigest()
        target = cache_directory() / "models" / digest
        if not target.is_dir():
            _copy(entries, target)
        return target
    except UserError:
        raise
    except (RtdscanError, OSError) as error:
        raise UserError(f"model {url}: can't be copied to {cache_directory()}: {error}") from error


def _copy(entries: "Sequence[storage.Entry]", target: Path) -> None:
    from rtdscan.transforms import storage

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent) as temporary:
        whole = Path(temporary) / "model"
        whole.mkdir()
        for entry in entries:
            copy = whole / entry.relative
            copy.parent.mkdir(exist_ok=True)
            with storage.open_read(entry.path) as source, copy.open("wb") as file:
                while block := source.read(1 << 22):
                    file.write(block)
            if copy.stat().st_size != entry.size:
                raise UserError(f"model file {entry.path}: changed while it was copied; try again")
        try:
            whole.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same files
                raise


def _is_model_file(relative: str) -> bool:
    return any(fnmatchcase(relative, p) and relative.count("/") == p.count("/") for p in MODEL_FILES)
