"""The scan from and to an object store: a real S3 server, asked through boto3 and Beam's file system."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from corpora import options, shards, write_corpus
from stores import BUCKET, Store, serving

from rtdscan.pipeline.__main__ import main
from rtdscan.transforms import storage
from rtdscan.transforms.errors import StoreError
from rtdscan.transforms.storage import locks, s3
from rtdscan.transforms.storage.locks import LEASE_SECONDS

pytestmark = pytest.mark.usefixtures("in_process", "credentials")

INPUT, OUTPUT = f"s3://{BUCKET}/in", f"s3://{BUCKET}/out"


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture
def store(server: Store) -> Store:
    """The store, emptied."""
    for key in server.objects():
        server.client().delete_object(Bucket=BUCKET, Key=key)
    server.proxy.mend()
    server.proxy.requests.clear()
    s3._client.cache_clear()
    return server


@pytest.fixture
def credentials(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a user sets: AWS variables, nothing of Beam's. No waiting for the test's leases to settle."""
    for name, value in {
        "AWS_ENDPOINT_URL": store.proxy.url,
        "AWS_ACCESS_KEY_ID": "root",
        "AWS_SECRET_ACCESS_KEY": "root",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def corpus(store: Store, tmp_path: Path) -> Path:
    """Three files, in the store under `in` too."""
    folder = write_corpus(tmp_path / "corpus")
    store.upload(folder, "in")
    return folder


def scan(bundle: Path, *sets: str, expected: int = 0) -> dict[str, int]:
    """Scan from the store into it; returns units by outcome."""
    assert main(["scan", INPUT, OUTPUT, *options(bundle, *sets)]) == expected
    found = storage.read_bytes(f"{OUTPUT}/run.json")
    return json.loads(found)["summary"]["units"] if found else {}


@pytest.mark.slow
def test_the_same_bytes_as_from_and_to_a_disk(
    corpus: Path, tmp_path: Path, tiny_bundle: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"s3://{BUCKET}/models/tiny"
    store.upload(tiny_bundle, "models/tiny")
    sets = (f"model={model}", "report.enabled=true", "output.columns=[source]")
    assert main(["plan", INPUT, "--json", "--set", "unit.text_mb=0.001"]) == 0
    plan = json.loads(capsys.readouterr().out)
    done = scan(tiny_bundle, *sets)
    assert main(["scan", str(corpus), str(tmp_path / "out"), *options(tiny_bundle, "output.columns=[source]")]) == 0
    found = {name: data for name, data in store.objects("out/").items() if name.startswith("attributes/")}
    # Stamps tell the input's time, in whole seconds here and nanoseconds there; all else is equal.
    local = shards(tmp_path / "out")
    assert set(found) == set(local)
    assert len(found) == plan["units"] == done["scored"] >= 8
    assert [rows(data) for data in found.values()] == [rows(local[name]) for name in found]
    assert {"run.json", "manifest.parquet", "metrics.prom", "report.html"} < set(store.objects("out/"))
    assert not [name for name in store.objects("out/") if name.startswith((".attempts", ".lock", ".tmp"))]
    assert store.unfinished_uploads() == 0
    # Nothing is left to do, and a scan of nothing writes no shard.
    store.proxy.requests.clear()
    assert scan(tiny_bundle, *sets) == {"current": done["scored"]}
    assert not [line for line in store.proxy.requests if line.startswith(f"PUT /{BUCKET}/out/attributes")]
    # A new file is all that a nightly scan reads.
    store.put("in/new.parquet", (corpus / "news item" / "b.parquet").read_bytes())
    again = scan(tiny_bundle, *sets)
    assert again["current"] == done["scored"]
    assert again["scored"] > 0


def rows(shard: bytes) -> list[dict[str, object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(shard)).to_pylist()


def test_an_object_is_one_put_however_large(store: Store) -> None:
    data = bytes(range(256)) * (12 << 12)  # 12 MiB; from 5 on Beam's own client uploads in parts
    storage.put_bytes(f"{OUTPUT}/large", data)
    assert Counter(line.partition(" ")[0] for line in store.proxy.requests) == {"PUT": 1}
    assert storage.read_bytes(f"{OUTPUT}/large") == data
    with storage.open_read(f"{OUTPUT}/large") as source:
        assert source.read_at(1000, 6_000_000) == data[6_000_000:6_001_000]


def test_an_upload_that_fails_leaves_nothing(store: Store) -> None:
    def write(sink) -> None:
        sink.write(b"half of it")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        storage.put(f"{OUTPUT}/shard.parquet", write)
    store.proxy.cut_before = "PUT "
    with pytest.raises(StoreError, match=f"cannot write {OUTPUT}/shard.parquet: "):
        storage.put_bytes(f"{OUTPUT}/shard.parquet", b"all of it")
    store.proxy.mend()
    assert store.objects("out/") == {}
    assert store.unfinished_uploads() == 0


@pytest.mark.slow
def test_ten_thousand_objects_are_listed_in_pages(store: Store) -> None:
    for number in range(10_000):
        store.put(f"many/d{number % 10}/f{number:05d}.parquet", b"x")
    entries = storage.list_files(f"s3://{BUCKET}/many", suffix=".parquet")
    assert len(entries) == 10_000
    assert entries[0].relative == "d0/f00000.parquet"
    assert [line.partition(" ")[0] for line in store.proxy.requests] == ["GET"] * 10
    storage.remove_tree(f"s3://{BUCKET}/many")
    assert storage.list_files(f"s3://{BUCKET}/many") == []


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


def told(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_connection_that_is_cut_ends_the_scan_and_the_next_one_resumes(
    corpus: Path, tiny_bundle: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.proxy.cut_before = f"PUT /{BUCKET}/out/attributes/.*b.parquet"
    scan_cut = main(["scan", INPUT, OUTPUT, *options(tiny_bundle, "on_bad_file=quarantine")])
    assert scan_cut == 1
    error = told(capsys)
    assert error.startswith("rtdscan: cannot ")
    assert f"{OUTPUT}/" in error
    store.proxy.mend()
    done = [name for name in store.objects("out/") if name.startswith("attributes/")]
    assert done
    assert "run.json" not in store.objects("out/")
    # Its lease is still there: it could not say that it was going.
    assert ".lock" in store.objects("out/")
    assert main(["scan", INPUT, OUTPUT, *options(tiny_bundle)]) == 4
    assert f"if it was killed, try again in {LEASE_SECONDS:.0f} s" in told(capsys)
    age_the_lease(store, LEASE_SECONDS + 1)
    outcomes = scan(tiny_bundle)
    assert outcomes["current"] == len(done)
    assert outcomes["scored"] > 0
    assert set(outcomes) == {"current", "scored"}  # nothing was taken for a bad file
    assert ".lock" not in store.objects("out/")


def age_the_lease(store: Store, seconds: float) -> None:
    claim = json.loads(store.objects("out/")[".lock"])
    claim["renewed"] -= seconds
    store.put("out/.lock", json.dumps(claim).encode())


@pytest.mark.slow
def test_a_cut_while_reading_is_no_bad_file(
    corpus: Path, tiny_bundle: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where bad files are tolerated: a store that is gone for a minute must not quarantine a corpus."""
    scan(tiny_bundle)
    store.client().delete_object(Bucket=BUCKET, Key="out/run.json")
    for name in store.objects("out/"):
        if "a.parquet" in name:
            store.client().delete_object(Bucket=BUCKET, Key=f"out/{name}")
    store.proxy.requests.clear()
    store.proxy.cut_before = f"PUT /{BUCKET}/out/.attempts"  # the last before the unit is read
    capsys.readouterr()
    assert main(["scan", INPUT, OUTPUT, *options(tiny_bundle, "on_bad_file=quarantine")]) == 1
    assert "cannot " in told(capsys)
    assert "run.json" not in store.objects("out/")


@pytest.mark.timeout(30)
def test_a_store_that_is_not_there(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert main(["plan", INPUT]) == 1
    assert told(capsys) == (
        f'rtdscan: cannot look at {INPUT}: Could not connect to the endpoint URL: "http://127.0.0.1:1/{BUCKET}/in"'
        " (AWS_ENDPOINT_URL)"
    )


@pytest.mark.slow
def test_a_user_sees_one_line_and_nothing_of_beams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # seconds of waiting between them
    command = [sys.executable, "-m", "rtdscan.pipeline", "plan", INPUT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"rtdscan: cannot look at {INPUT}: Could not connect")


def test_no_credential(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert main(["plan", INPUT]) == 1
    line = told(capsys)
    assert "Unable to locate credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in line


def test_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"s3://{BUCKET}/nothing"]) == 2
    assert f"s3://{BUCKET}/nothing does not exist" in told(capsys)
    assert main(["plan", "s3://no-such-bucket/in"]) in (1, 2)
    assert "s3://no-such-bucket/in" in told(capsys)


@pytest.fixture
def reader(store: Store, credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server asks for rights from here on; this user may read and list, not write."""
    iam = store.client("iam")
    name = f"reader{len(iam.list_users()['Users'])}"
    iam.create_user(UserName=name)
    rights = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [rights]})
    iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    requests.post(f"{store.url}/moto-api/reset-auth", data=b"0", timeout=10)
    yield
    requests.post(f"{store.url}/moto-api/reset-auth", data=b"inf", timeout=10)


@pytest.mark.usefixtures("reader")
def test_a_credential_that_lacks_a_right(
    corpus: Path, tiny_bundle: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", INPUT]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["scan", INPUT, OUTPUT, *options(tiny_bundle)]) == 1
    line = told(capsys)
    assert line.startswith(f"rtdscan: cannot write {OUTPUT}/.lock: ")
    assert line.endswith("; check the credential, and its rights to list, read, write and delete there")
    assert store.objects("out/") == {}


@pytest.mark.usefixtures("reader")
def test_a_wrong_credential(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert main(["plan", INPUT]) == 1
    line = told(capsys)
    assert line.startswith(f"rtdscan: cannot look at {INPUT}: ")
    assert "check the credential" in line
    assert "wrong" not in line
