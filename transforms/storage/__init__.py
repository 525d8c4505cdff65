"""Read, list and atomically commit files: local paths, and every scheme that Beam has a file system for.

paths     what a path is; the one door to Beam's file systems
files     look at, read, write and remove single files
listing   folders, globs and several inputs -> entries
locks     one scan at a time
s3        the client behind Beam's S3 file system

A local path is one without a scheme, or with `file://`; it never touches Beam. For `s3://`, `gs://`, `hdfs://` … Beam's
FileSystems are imported when such a path is first used. A file appears whole or not at all: locally by a temporary file
and a rename, elsewhere by one put of bytes that were complete before the upload began.
"""

from rtdscan.transforms.storage.files import (
    clean_temporaries,
    exists,
    open_read,
    put,
    put_bytes,
    read_bytes,
    remove,
    remove_tree,
    stat,
)
from rtdscan.transforms.storage.listing import SUFFIXES, Entry, covers, expand, expand_all, glob_root, list_files
from rtdscan.transforms.storage.locks import LOCK, lock
from rtdscan.transforms.storage.paths import import_beam, is_local, join, local, printable

__all__ = [
    "LOCK",
    "SUFFIXES",
    "Entry",
    "clean_temporaries",
    "covers",
    "exists",
    "expand",
    "expand_all",
    "glob_root",
    "import_beam",
    "is_local",
    "join",
    "list_files",
    "local",
    "lock",
    "open_read",
    "printable",
    "put",
    "put_bytes",
    "read_bytes",
    "remove",
    "remove_tree",
    "stat",
]
