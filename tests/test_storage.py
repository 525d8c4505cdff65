import errno
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem
from hypothesis import given
from hypothesis import strategies as st

from rtdscan.transforms import storage
from rtdscan.transforms.cutting import cut_file
from rtdscan.transforms.errors import BusyError, RtdscanError, StoreError, UserError
from rtdscan.transforms.storage import files, locks
from rtdscan.transforms.units import read_unit

STORE: dict[str, tuple[bytes, float]] = {}


class _Upload(io.BytesIO):
    """As Beam's uploads: closing completes it, also when something went wrong before."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            STORE[self._path] = (self.getvalue(), time.time())
        super().close()


class MemoryFileSystem(FileSystem):
    """A store as Beam sees one: flat, found by its scheme."""

    @classmethod
    def scheme(cls):
        return "mem"

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        raise NotImplementedError

    def has_dirs(self):
        return False

    def _list(self, prefix):
        return [self.metadata(path) for path in STORE if path.startswith(prefix)]

    def create(self, path, mime_type="", compression_type=""):
        return _Upload(path)

    def open(self, path, mime_type="", compression_type=""):
        return io.BytesIO(STORE[path][0])

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def exists(self, path):
        return path in STORE

    def size(self, path):
        return len(STORE[path][0])

    def last_updated(self, path):
        return STORE[path][1]

    def metadata(self, path):
        return FileMetadata(path, len(STORE[path][0]), STORE[path][1])

    def delete(self, paths):
        missing = {path: KeyError(path) for path in paths if path not in STORE}
        if missing:
            raise BeamIOError("Delete operation failed", missing)
        for path in paths:
            del STORE[path]


@pytest.fixture(params=["local", "store"])
def root(request, tmp_path):
    STORE.clear()
    return str(tmp_path / "root") if request.param == "local" else "mem://bucket/root"


def put_all(root: str, *names: str) -> None:
    for name in names:
        storage.put_bytes(storage.join(root, name), name.encode())


def relatives(entries: list[storage.Entry]) -> list[str]:
    return [entry.relative for entry in entries]


# --- paths


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("/a", "b", "c/d"), "/a/b/c/d"),
        (("/a/", "/b/"), "/a/b"),
        (("/", "b"), "/b"),
        (("/",), "/"),
        (("a", "", "b"), "a/b"),
        (("s3://bucket", "x"), "s3://bucket/x"),
        (("s3://", "bucket"), "s3://bucket"),
        (("", "a"), "a"),
    ],
)
def test_join(parts, joined):
    assert storage.join(*parts) == joined


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a", True), ("a:b/c", True), ("file:///a", True), ("s3://a/b", False), ("gs://a", False), ("./x://y", True)],
)
def test_is_local(path, expected):
    assert storage.is_local(path) is expected


def test_local_strips_the_scheme():
    assert storage.local("file:///a/b c") == Path("/a/b c")


def test_local_paths_do_not_import_beam(tmp_path):
    program = (
        "import sys; from rtdscan.transforms import storage as s\n"
        f"p = s.join({str(tmp_path)!r}, 'a/b.parquet'); s.put_bytes(p, b'x'); s.read_bytes(p); s.expand_all([p])\n"
        "with s.lock(p + '.out'): pass\n"
        "sys.exit('apache_beam' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- reading and writing, locally and in a store


@given(data=st.binary(max_size=300))
def test_bytes_round_trip(tmp_path_factory, data):
    for path in (str(tmp_path_factory.getbasetemp() / "x/y"), "mem://bucket/x/y"):
        storage.put_bytes(path, data)
        assert storage.read_bytes(path) == data
        assert storage.exists(path)
        assert storage.stat(path)[0] == len(data)
        with storage.open_read(path) as source:
            assert source.size() == len(data)
            assert source.read_at(5, 2) == data[2:7]


def test_missing_files(root):
    path = storage.join(root, "no/such")
    assert storage.read_bytes(path) is None
    assert storage.stat(path) is None
    assert not storage.exists(path)
    assert storage.list_files(path) == []
    storage.remove(path)
    storage.remove_tree(path)
    with pytest.raises(RtdscanError, match="no/such"), storage.open_read(path):
        pass


def test_a_file_where_a_folder_should_be_counts_as_missing(tmp_path):
    storage.put_bytes(f"{tmp_path}/a", b"x")
    assert storage.read_bytes(f"{tmp_path}/a/b") is None
    assert storage.stat(f"{tmp_path}/a/b") is None
    storage.remove(f"{tmp_path}/a/b")


def test_remove_and_remove_tree(root):
    put_all(root, "a/x", "a/.hidden", "a/b/[y]", "ab/z", "a2")
    storage.remove(storage.join(root, "a2"))
    storage.remove_tree(storage.join(root, "a"))
    assert relatives(storage.list_files(root)) == ["ab/z"]


def test_folders_that_a_removal_empties_go_as_well(root):
    put_all(root, "top/a/b/x", "top/a/c/y", "top/d/e/z", "top/d/.hidden")
    top = storage.join(root, "top")
    for name in ("a/b/x", "a/c/y", "d/e/z", "no/such"):
        storage.remove(storage.join(top, name), within=top)
    assert relatives(storage.list_files(root, hidden=True)) == ["top/d/.hidden"]
    if storage.is_local(root):
        assert [path.name for path in storage.local(top).rglob("*")] == ["d", ".hidden"]
        storage.remove(storage.join(top, "d", ".hidden"), within=top)
        assert list(storage.local(root).iterdir()) == [storage.local(top)]  # which stays


def test_remove_tree_of_a_link_leaves_what_it_points_to(tmp_path):
    put_all(str(tmp_path), "real/x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage.remove_tree(f"{tmp_path}/link")
    assert relatives(storage.list_files(str(tmp_path))) == ["real/x"]


def test_parquet_round_trip(root):
    table = pa.table({"text": ["a", None, "c"]})
    path = storage.join(root, "t.parquet")
    storage.put(path, lambda sink: pq.write_table(table, sink))
    with storage.open_read(path) as source:
        assert pq.read_table(source).equals(table)


def test_units_of_a_file_in_a_store_are_those_of_the_same_file_here(tmp_path):
    table = pa.table({"text": [f"text {row}" for row in range(100)]})
    for place in (f"{tmp_path}/t.parquet", "mem://bucket/t.parquet"):
        storage.put(place, lambda sink: pq.write_table(table, sink, row_group_size=40))
    read = []
    for place in (f"{tmp_path}/t.parquet", "mem://bucket/t.parquet"):
        _, planned = cut_file(storage.expand(place)[0], text="text", text_mb=4.0)
        assert [unit.rows for unit in planned] == [40, 40, 20]
        read.append(pa.concat_tables([read_unit(unit, text="text") for unit in planned]))
    assert read[0].equals(read[1])


def test_a_failed_write_leaves_the_old_file(root):
    path = storage.join(root, "f.parquet")
    storage.put_bytes(path, b"old")

    def write(sink):
        sink.write(b"half of it")
        raise RuntimeError("killed in the middle")

    with pytest.raises(RuntimeError):
        storage.put(path, write)
    assert storage.read_bytes(path) == b"old"
    if storage.is_local(root):
        assert os.listdir(root) == ["f.parquet"]


def test_while_it_is_written_nothing_parquet_can_be_seen(tmp_path):
    seen: list[str] = []

    def write(sink):
        sink.write(b"x")
        seen.extend(os.listdir(tmp_path))

    storage.put(f"{tmp_path}/f.parquet", write)
    assert len(seen) == 1
    assert seen[0].startswith(".tmp-")
    assert str(os.getpid()) in seen[0]
    assert not seen[0].endswith(".parquet")


def test_full_disk_names_the_path_and_what_to_do(tmp_path):
    def write(sink):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RtdscanError, match=r"cannot write .*/f: No space left on device; free some space") as caught:
        storage.put(f"{tmp_path}/f", write)
    assert isinstance(caught.value.__cause__, OSError)
    assert os.listdir(tmp_path) == []


def test_a_store_that_refuses_becomes_one_error(monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "create", lambda *a, **k: (_ for _ in ()).throw(ValueError("403\nForbidden")))
    with pytest.raises(RtdscanError, match=r"cannot write mem://bucket/f: 403 Forbidden"):
        storage.put_bytes("mem://bucket/f", b"x")


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("nosuch://a/b", "expected a local path, s3://, gs://, azfs:// or hdfs://"),
        ("s3a://a/b", "did you mean s3://?"),
        ("abfss://a/b", "did you mean azfs://ACCOUNT/CONTAINER"),
        ("hdfs://a/b", "a Beam runner, and hdfs_host, hdfs_port, hdfs_user under `beam`"),
    ],
)
def test_a_scheme_that_beam_does_not_know(path, advice):
    """Beam's own advice was to install Google's client, whatever the scheme, and the exit status 1."""
    told = re.escape(f"{path}: Beam has no file system for it here; ") + f".*{re.escape(advice)}"
    with pytest.raises(UserError, match=told) as caught:
        storage.exists(path)
    assert isinstance(caught.value, StoreError), "on a worker that lacks a package no file may be taken for a bad one"


def test_a_file_system_without_its_package(monkeypatch):
    kept = [cls for cls in FileSystem.get_all_subclasses() if cls.scheme() != "gs"]
    monkeypatch.setattr(FileSystem, "get_all_subclasses", classmethod(lambda cls: kept))
    with pytest.raises(UserError, match=r'gs://a/b: .*; pip install "apache-beam\[gcp\]"'):
        storage.expand("gs://a/b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RtdscanError, match=r"Permission denied; check its permissions"):
        storage.put_bytes(f"{tmp_path}/f", b"x")


def test_version_changes_with_the_file(tmp_path):
    path = f"{tmp_path}/f"
    storage.put_bytes(path, b"x")
    os.utime(path, ns=(1, 1))
    assert storage.stat(path) == (1, "1")
    assert storage.expand(path)[0].version == "1"


def test_listing_and_stat_tell_the_same(root):
    put_all(root, "a.parquet")
    [entry] = storage.list_files(root)
    assert (entry.size, entry.version) == storage.stat(entry.path)


def test_clean_temporaries_takes_only_what_the_dead_left(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        "dead": f".tmp-{files._host()}-{dead.pid}-0",
        "alive": f".tmp-{files._host()}-{os.getpid()}-0",
        "elsewhere": f".tmp-00000000-{dead.pid}-0",
        "elsewhere, old": f".tmp-00000000-{dead.pid}-1",
        "no temporary": "x.parquet",
    }
    put_all(f"{tmp_path}/deep", *names.values())
    os.utime(tmp_path / "deep" / names["elsewhere, old"], (0, 0))
    assert storage.clean_temporaries(str(tmp_path)) == 2
    left = {names["alive"], names["elsewhere"], names["no temporary"]}
    assert set(os.listdir(tmp_path / "deep")) == left
    assert storage.clean_temporaries("mem://bucket") == 0


# --- listing


def test_list_files_is_recursive_sorted_and_passes_over_hidden_names(root):
    put_all(
        root, "b.parquet", "a/z.parquet", "a/_x.parquet", "_tmp/y.parquet", ".git/c.parquet", "a/n.txt", "a/B.PARQUET"
    )
    assert relatives(storage.list_files(root)) == ["a/B.PARQUET", "a/n.txt", "a/z.parquet", "b.parquet"]
    assert relatives(storage.list_files(root, suffix=".parquet")) == ["a/B.PARQUET", "a/z.parquet", "b.parquet"]
    assert len(storage.list_files(root, hidden=True)) == 7


def test_a_root_that_is_itself_hidden_is_listed(tmp_path):
    put_all(f"{tmp_path}/_raw/.x", "a.parquet")
    assert relatives(storage.expand(f"{tmp_path}/_raw/.x")) == ["a.parquet"]


def test_links_are_followed_and_cycles_are_not(tmp_path):
    put_all(str(tmp_path), "in/a.parquet", "elsewhere/b.parquet")
    (tmp_path / "in/file.parquet").symlink_to(tmp_path / "elsewhere/b.parquet")
    (tmp_path / "in/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to(tmp_path / "in")
    found = relatives(storage.list_files(f"{tmp_path}/in"))
    assert found == ["a.parquet", "file.parquet", "folder/b.parquet"]


def test_a_dangling_link_is_listed_so_that_somebody_is_told(tmp_path):
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    [entry] = storage.expand(str(tmp_path))
    assert (entry.relative, entry.size, entry.version) == ("gone.parquet", 0, "")


def test_a_link_to_itself_is_listed_like_a_dangling_one(tmp_path):
    put_all(str(tmp_path), "a.parquet")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.parquet").symlink_to("loop.parquet")
    assert [(entry.relative, entry.version) for entry in storage.list_files(str(tmp_path))][1:] == [
        ("loop", ""),
        ("loop.parquet", ""),
    ]
    assert relatives(storage.expand(str(tmp_path))) == ["a.parquet", "loop.parquet"]


def test_pipes_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "p.parquet")
    assert storage.list_files(str(tmp_path)) == []


def test_a_name_that_is_not_utf8(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.parquet", "wb") as sink:
        sink.write(b"x")
    [entry] = storage.expand(str(tmp_path))
    assert entry.relative == "\\xff.parquet"
    assert storage.read_bytes(entry.path) == b"x"
    with storage.open_read(entry.path) as source:
        assert source.read() == b"x"


TREE = (
    "a.parquet",
    "b.pq",
    "d1/a.parquet",
    "d1/e/a.parquet",
    "d2/b.parquet",
    "d2/note.txt",
    "n1.parquet/part-0.parquet",
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["a.parquet", "b.pq", "d1/a.parquet", "d1/e/a.parquet", "d2/b.parquet", "n1.parquet/part-0.parquet"]),
        ("a.parquet", ["a.parquet"]),
        ("*.parquet", ["a.parquet", "n1.parquet/part-0.parquet"]),  # Spark's outputs are folders
        ("d?/*.parquet", ["d1/a.parquet", "d2/b.parquet"]),
        ("d[!1]/*", ["d2/b.parquet"]),
        ("d*", ["d1/a.parquet", "d1/e/a.parquet", "d2/b.parquet"]),
        ("**/a.parquet", ["a.parquet", "d1/a.parquet", "d1/e/a.parquet"]),
        ("d1/**", ["a.parquet", "e/a.parquet"]),
        ("d1/**/e/*.parquet", ["e/a.parquet"]),
        ("d2/note.txt", ["note.txt"]),  # named outright
    ],
)
def test_expand(root, pattern, expected):
    put_all(root, *TREE)
    entries = storage.expand(storage.join(root, pattern) if pattern else root)
    assert relatives(entries) == expected
    for entry in entries:
        assert storage.read_bytes(entry.path).decode().endswith(entry.relative)


@pytest.mark.parametrize("name", ["data[1].parquet", "what?.parquet", "Über uns *.parquet", "日本 語.parquet"])
def test_a_name_that_exists_wins_over_a_glob(root, name):
    put_all(root, name, "data1.parquet", "whatx.parquet")
    assert relatives(storage.expand(storage.join(root, name))) == [name]
    put_all(root, f"dir {name}/a.parquet")
    entries = storage.expand(storage.join(root, f"dir {name}"))
    assert relatives(entries) == ["a.parquet"]
    assert relatives(storage.expand(storage.join(root, "d*[x .]*", "*.parquet"))) == [f"dir {name}/a.parquet"]


def test_a_glob_below_a_folder_with_brackets_is_of_that_folder(tmp_path):
    put_all(str(tmp_path), "data[2]/a.parquet", "data2/b.parquet", "data2/c[1].parquet")
    entries = storage.expand(f"{tmp_path}/data[2]/*.parquet")
    assert [(entry.path, entry.relative) for entry in entries] == [(f"{tmp_path}/data[2]/a.parquet", "a.parquet")]
    assert storage.glob_root(f"{tmp_path}/data[2]/*.parquet") == f"{tmp_path}/data[2]"
    assert relatives(storage.expand(f"{tmp_path}/data[1-3]/b*")) == ["data2/b.parquet"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("nope", "does not exist"), ("x*", "matches no Parquet file"), ("d2", "no Parquet files in")],
)
def test_nothing_found(root, pattern, message):
    put_all(root, "d2/note.txt", "a.parquet")
    path = storage.join(root, pattern)
    with pytest.raises(UserError, match=message) as caught:
        storage.expand(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_expand_all_keeps_equal_names_apart_and_lists_each_file_once(root):
    put_all(root, "news/2024/a.parquet", "blogs/a.parquet", "other/x.parquet")
    inputs = [
        storage.join(root, part) for part in ("news", "blogs/*.parquet", "news/2024/a.parquet", "blogs/a.parquet")
    ]
    found, entries = storage.expand_all(inputs)
    assert found == root
    assert relatives(entries) == ["blogs/a.parquet", "news/2024/a.parquet"]


def test_root_of_one_file_is_its_folder(root):
    put_all(root, "d/a.parquet", "d2/a.parquet", "d/e/b.parquet")
    path = storage.join(root, "d/a.parquet")
    assert storage.expand_all([path])[0] == storage.join(root, "d")
    # d and d2 have their parent in common, not the beginning of their names.
    found, entries = storage.expand_all([path, storage.join(root, "d2/a.parquet")])
    assert (found, relatives(entries)) == (root, ["d/a.parquet", "d2/a.parquet"])
    assert storage.glob_root(storage.join(root, "d/*/b.parquet")) == storage.join(root, "d")
    assert storage.glob_root(storage.join(root, "d/")) == storage.join(root, "d")


def test_spellings_of_one_path_are_one_file(tmp_path, monkeypatch):
    put_all(str(tmp_path), "d/a.parquet")
    monkeypatch.chdir(tmp_path)
    _, entries = storage.expand_all(["d/a.parquet", "./d/../d", f"file://{tmp_path}/d/"])
    assert [entry.path for entry in entries] == [f"{tmp_path}/d/a.parquet"]


def test_inputs_on_different_file_systems(tmp_path):
    put_all(str(tmp_path), "a.parquet")
    put_all("mem://bucket", "a.parquet")
    with pytest.raises(UserError, match="different file systems"):
        storage.expand_all([str(tmp_path), "mem://bucket"])
    put_all("mem://other", "a.parquet")
    found, entries = storage.expand_all(["mem://bucket/*.parquet", "mem://other"])
    assert (found, relatives(entries)) == ("mem://", ["bucket/a.parquet", "other/a.parquet"])


def test_no_input():
    for inputs in ([], [""]):
        with pytest.raises(UserError, match="no INPUT"):
            storage.expand_all(inputs)


# --- locks


@pytest.fixture
def quick_leases(monkeypatch):
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.0)


@pytest.mark.usefixtures("quick_leases")
def test_lock_excludes_names_the_holder_and_is_released(root):
    with storage.lock(root):
        with (
            pytest.raises(BusyError, match=rf"busy: process {os.getpid()} on \S+ since 20\d\d-") as caught,
            storage.lock(root),
        ):
            pass
        assert caught.value.exit_status == 4
    with storage.lock(root):
        pass
    with pytest.raises(KeyError), storage.lock(root):
        raise KeyError("inside")
    with storage.lock(root):
        pass


@pytest.mark.usefixtures("quick_leases")
@pytest.mark.parametrize("lease", [b'{"renewed": null}', b'{"renewed": "x"}', b"[1]", b"{", b""])
def test_an_odd_lease_holds_nothing(lease):
    STORE.clear()
    storage.put_bytes("mem://bucket/out/.lock", lease)
    with storage.lock("mem://bucket/out"):
        pass


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RtdscanError, match=r"\.lock"), storage.lock(str(tmp_path)):
        pass
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_killed_process_leaves_no_lock(tmp_path):
    program = (
        "import time\nfrom rtdscan.transforms import storage\n"
        f"with storage.lock({str(tmp_path)!r}):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {child.pid} "), storage.lock(str(tmp_path)):
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    with storage.lock(str(tmp_path)):
        pass


@pytest.mark.usefixtures("quick_leases")
def test_a_lease_is_renewed_and_a_stale_one_does_not_count(monkeypatch):
    STORE.clear()
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.2)
    with storage.lock("mem://bucket/out"):
        time.sleep(0.5)
        with pytest.raises(BusyError), storage.lock("mem://bucket/out"):
            pass
    assert "mem://bucket/out/.lock" not in STORE
    storage.put_bytes("mem://bucket/out/.lock", locks._claim("somebody killed"))
    with pytest.raises(BusyError), storage.lock("mem://bucket/out"):
        pass
    time.sleep(0.25)
    with storage.lock("mem://bucket/out"):
        pass


def test_a_lease_that_settles_is_taken_away_by_who_is_stopped(monkeypatch):
    """SIGTERM in the second after it was written left it, and the next scan was refused for two minutes."""
    STORE.clear()

    def stopped(_):
        assert "mem://bucket/out/.lock" in STORE
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(locks.time, "sleep", stopped)
        with pytest.raises(KeyboardInterrupt), storage.lock("mem://bucket/out"):
            pytest.fail("it has not settled")
    assert "mem://bucket/out/.lock" not in STORE


def test_of_two_leases_at_once_one_wins(monkeypatch):
    STORE.clear()
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.1)
    looked, put, outcomes = threading.Barrier(2, timeout=10), locks.put_bytes, []

    def put_together(path: str, data: bytes) -> None:
        looked.wait()  # both have found nobody there
        put(path, data)

    def scan() -> None:
        try:
            with storage.lock("mem://bucket/out"):
                outcomes.append("held")
        except BusyError as error:
            outcomes.append(str(error).rpartition("; ")[2])

    monkeypatch.setattr(locks, "put_bytes", put_together)

    threads = [threading.Thread(target=scan) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["both began at the same moment", "held"]


@pytest.mark.usefixtures("quick_leases")
def test_a_file_system_without_locks_gets_a_lease(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with storage.lock(str(tmp_path)), pytest.raises(BusyError), storage.lock(str(tmp_path)):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_zombie_is_dead(tmp_path):
    """An orphan in a container whose init does not reap stays a zombie; its temporaries must not wait for a day."""
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 10
    while not files._is_zombie(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / f"{files.TEMPORARY}{files._host()}-{child.pid}-x").write_bytes(b"")
    (tmp_path / f"{files.TEMPORARY}{files._host()}-{os.getpid()}-x").write_bytes(b"")
    assert storage.clean_temporaries(str(tmp_path)) == 1
    child.wait()
