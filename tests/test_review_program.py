"""`rtdscan review`: who may reach the page, what it refuses, how it begins and ends."""

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpora import options, run_here, write_corpus

from rtdscan.pipeline.__main__ import main
from rtdscan.pipeline.page.address import bind, check_login, is_loopback, url_of
from rtdscan.pipeline.page.settings import (
    ReviewConfig,
    UsersSettings,
    clean_name,
    default_reviewer,
    may_enter,
    read_users,
)
from rtdscan.transforms.errors import UserError

# Only processes of its own import it: to collect these tests takes seconds less.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")

GUARD = """
import socket, sys
real = socket.socket.connect
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        print("CONNECTED", address, file=sys.stderr, flush=True)
        raise OSError("no network in this test")
    return real(self, address)
socket.socket.connect = connect
lookup = socket.getaddrinfo
def getaddrinfo(host, *more, **also):
    if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):
        print("LOOKED UP", host, file=sys.stderr, flush=True)
    return lookup(host, *more, **also)
socket.getaddrinfo = getaddrinfo
from rtdscan.pipeline.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    folder = tmp_path_factory.mktemp("review")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdscan.pipeline.launchers.local.run_local", run_here)
        corpus = write_corpus(folder / "corpus")
        assert main(["scan", str(corpus), str(folder / "out"), *options(tiny_bundle)]) == 0
    return folder / "out"


class Served:
    """A page in a process of its own."""

    def __init__(self, *args: str, **environment: str) -> None:
        command = [sys.executable, "-c", GUARD, "review", *args, "--port", "0", "--json"]
        env = {**os.environ, **environment}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        self.told: dict[str, Any] = json.loads(line)
        self.url: str = self.told["url"]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Exit status, the rest of stdout, stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def guarded(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page with a login, on loopback."""
    users = tmp_path_factory.mktemp("users") / "users"
    users.write_text("# who may look\nana:cor:rect\nbö:batterie\n", encoding="utf-8")
    served = Served(str(output), "--set", f"users.file={users}", "--set", "load=false")
    yield served
    if served.process.poll() is None:
        served.end()


def get(url: str, **headers: str) -> tuple[int, Any, str]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def login(url: str, name: str, password: str) -> tuple[int, str]:
    """Status, and the cookie."""
    form = urllib.parse.urlencode({"username": name, "password": password}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + "login", data=form), timeout=20) as answer:
            cookies = [value.partition(";")[0] for value in answer.headers.get_all("set-cookie")]
            return answer.status, "; ".join(cookies)
    except urllib.error.HTTPError as error:
        return error.code, ""


@pytest.mark.slow
def test_nothing_is_shown_before_a_login(guarded: Served) -> None:
    status, _, body = get(guarded.url)
    assert status == 200
    assert "documents" not in body
    assert "s0" not in body
    assert get(guarded.url + "config")[0] == 401
    assert login(guarded.url, "ana", "wrong")[0] == 400
    assert login(guarded.url, "nobody", "")[0] in (400, 422)
    status, cookie = login(guarded.url, "bö", "batterie")
    assert status == 200
    status, cookie = login(guarded.url, "ana", "cor:rect")
    assert status == 200
    status, _, body = get(guarded.url + "config", Cookie=cookie)
    assert status == 200
    assert "82 documents" in body
    assert get(guarded.url + "gradio_api/info")[0] == 401


@pytest.mark.slow
def test_a_browser_is_told_to_ask_no_other_host(guarded: Served) -> None:
    for path in ("", "theme.css", "nothing-here"):
        headers = get(guarded.url + path)[1]
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["connect-src"] == "'self'"
        assert not any("http" in value or "*" in value for value in policy.values())
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.slow
def test_only_names_of_this_machine_are_answered(guarded: Served) -> None:
    port = int(guarded.url.rstrip("/").rpartition(":")[2])
    for host, expected in (("evil.example", 421), (f"evil.example:{port}", 421), (f"localhost:{port}", 200)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest("GET", "/", skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        assert connection.getresponse().status == expected, host
        connection.close()


@pytest.mark.slow
def test_a_port_that_is_taken_is_named(guarded: Served, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = guarded.url.rstrip("/").rpartition(":")[2]
    assert main(["review", str(output), "--port", port]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"port {port} of 127.0.0.1" in told.err
    assert "--port" in told.err


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_ctrl_c_ends_it_in_order_and_it_asked_nobody(guarded: Served, output: Path) -> None:
    """Last: the page is open in a client, as a browser holds it."""
    assert guarded.told == {"url": guarded.url, "output": str(output)}
    status, cookie = login(guarded.url, "ana", "cor:rect")
    port = int(guarded.url.rstrip("/").rpartition(":")[2])
    held = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    held.request("GET", "/gradio_api/heartbeat/abc", headers={"Cookie": cookie})
    assert held.getresponse().status == status == 200
    status, out, err = guarded.end()
    assert status == 0
    assert out == ""
    assert err.strip().splitlines()[-1].startswith("rtdscan: the page has ended")
    assert "Traceback" not in err
    assert "CONNECTED" not in err
    assert "LOOKED UP" not in err


@pytest.mark.slow
def test_without_output_texts_are_tried_and_sigterm_ends_it(tiny_bundle: Path) -> None:
    served = Served("--set", f"model={tiny_bundle}", "--set", "engine=torch")
    assert served.told["output"] is None
    body = get(served.url)[2]
    assert "To look through a scan" in body
    status, _, err = served.end(signal.SIGTERM)
    assert status == 0
    assert "LOOKED UP" not in err


# ---------------------------------------------------------------------------------------------------------------------
# What is refused before anything is served


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["review", *args]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1
    return told.err


def test_another_host_needs_a_login(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "my-name"):
        told = refused(capsys, str(output), "--host", host)
        assert host in told
        assert "users.env" in told
        assert "users.file" in told
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"):
        check_login(host, {})
    check_login("0.0.0.0", {"ana": "x"})


def test_users_are_read_and_what_is_no_user_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PEOPLE", "ana:one\nbo:two:three")
    (tmp_path / "file").write_text("\n# people\ncy: four \n")
    users = read_users(UsersSettings(env="PEOPLE", file=tmp_path / "file"))
    assert users == {"ana": "one", "bo": "two:three", "cy": " four"}
    assert may_enter(users, "bo", "two:three")
    assert not may_enter(users, "bo", "two")
    assert not may_enter(users, "no one", "")
    assert read_users(UsersSettings()) == {}
    for value in ("", "secret", "ana:", ":x", "# nobody"):
        monkeypatch.setenv("PEOPLE", value)
        with pytest.raises(UserError, match="PEOPLE") as told:
            read_users(UsersSettings(env="PEOPLE"))
        assert "secret" not in str(told.value)
    with pytest.raises(UserError, match="missing"):
        read_users(UsersSettings(file=tmp_path / "missing"))
    assert "NOT_SET" in refused(capsys, "--host", "0.0.0.0", "--set", "users.env=NOT_SET")


def test_what_is_no_scan_or_port_or_is_not_installed_is_refused(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not an rtdscan output" in refused(capsys, str(tmp_path))
    assert "0 to 65535" in refused(capsys, "--port", "70000")
    assert "model" in refused(capsys, "--set", "modle=x")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "gradio" else find(name, *a))
    told = refused(capsys, str(output))
    assert "needs gradio" in told
    assert '".[review]"' in told


def test_a_port_is_taken_at_once() -> None:
    taken = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(UserError, match=str(port)):
        bind("127.0.0.1", port)
    script = "import sys\nfrom rtdscan.pipeline.__main__ import main\nstatus = main(sys.argv[1:])\n"
    script += "print('gradio' in sys.modules)\nsys.exit(status)"
    command = [sys.executable, "-c", script, "review", "--port", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert f"port {port} of 127.0.0.1" in done.stderr
    taken.close()
    bind("127.0.0.1", port).close()


def test_names_and_urls() -> None:
    assert clean_name("  Ana\n\x1b[31m \u202eLópez  ") == "Ana [31m López"
    assert clean_name("\u200b") == "reviewer"
    assert len(clean_name("x" * 500)) == 80
    assert default_reviewer(ReviewConfig(reviewer=" bo ")) == "bo"
    assert default_reviewer(ReviewConfig())
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org", "")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80/"
    assert url_of("::1", 80) == "http://[::1]:80/"
    assert url_of("0.0.0.0", 80) == f"http://{socket.gethostname()}:80/"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom rtdscan.pipeline.__main__ import main\nstatus = main(['review', '--help'])\n"
        "print([m for m in ('gradio', 'duckdb', 'pyarrow', 'numpy', 'torch') if m in sys.modules])\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"
    assert "users.env" in done.stdout
