"""Tell somebody that a gate said no or that a scan did not finish: a webhook, a program, or both.

The message holds counts only: no words, no names of documents, no values of columns. What goes wrong here is a warning.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

from rtdscan.pipeline.options import host_of, redacted_text
from rtdscan.pipeline.sections import NotifySettings
from rtdscan.transforms.gates import Verdict
from rtdscan.transforms.tally import Tally


def message(
    event: str,
    *,
    output: str,
    model: str | None = None,
    tally: Tally | None = None,
    verdicts: Sequence[Verdict] = (),
    bad: int = 0,
) -> dict[str, Any]:
    """What is sent.

    Args:
        event: "gate" when one said no, "unfinished" when files were bad, "failed" when it ended early.
        output: OUTPUT.
        model: Name of the bundle.
        tally: Of the whole corpus.
        verdicts: Of all gates; those of one gate are counted.
        bad: Files and units that could not be read.
    """
    names = dict.fromkeys(verdict.gate for verdict in verdicts)
    return {
        "format": 1,
        "event": event,
        "output": redacted_text(output),
        "model": model,
        "bad_inputs": bad,
        "metrics": tally.metrics() if tally else {},
        "gates": [_counts([verdict for verdict in verdicts if verdict.gate == name]) for name in names],
    }


def _counts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The verdicts of one gate without the values of the column that it is by."""
    first = verdicts[0]
    outcomes = [verdict.verdict for verdict in verdicts]
    return {
        "gate": first.gate,
        "metric": first.metric,
        "bound": first.bound,
        "by": first.by,
        "value": first.value if first.by is None else None,
        "verdicts": {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
    }


def notify(settings: NotifySettings, told: Mapping[str, Any]) -> None:
    """Send a message to all that are configured; never raises, warns on stderr."""
    body = json.dumps(told, ensure_ascii=False).encode()
    url = settings.url
    if settings.url_env and not url:
        url = os.environ.get(settings.url_env)
        if not url or not url.startswith(("http://", "https://")):
            _warn(f"environment variable {settings.url_env}", "holds no URL that begins with http:// or https://")
            url = None
    if url:
        _attempt(host_of(url), lambda: _post(url, body, seconds=settings.timeout), seconds=settings.timeout)
    if settings.command:
        # The program has its own clock: it has to be stopped, not only left.
        _attempt(settings.command[0], lambda: _run(settings.command, body, seconds=settings.timeout))


def _attempt(name: str, send: Callable[[], str | None], *, seconds: float | None = None) -> None:
    """Send, in a thread: a socket's time-out is for each step, and looking up a name has none."""
    problems: list[str | None] = []

    def attempt() -> None:
        try:
            problems.append(send())
        except Exception as error:  # whatever it is, the verdict stands; its text may hold the URL
            problems.append(type(error).__name__)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    problem = problems[0] if problems else f"no answer in {seconds:g} s"
    if problem:
        _warn(name, problem)


def _warn(name: str, problem: str) -> None:
    print(f"rtdscan: warning: notify: {name}: {problem}; nobody was told", file=sys.stderr)


class _Stay(urllib.request.HTTPRedirectHandler):
    """No connection to a host that nobody named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""
        return None


def _post(url: str, body: bytes, *, seconds: float) -> str | None:
    """POST JSON; returns what went wrong."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    headers = {"Content-Type": "application/json", "User-Agent": "rtdscan"}
    if at:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(user).encode()).decode()}"
    request = urllib.request.Request(
        urlunsplit(parts._replace(netloc=host, fragment="")), data=body, headers=headers, method="POST"
    )
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=seconds):
            return None
    except HTTPError as error:
        return f"status {error.code}"
    except URLError as error:
        return str(error.reason)
    except (OSError, HTTPException) as error:
        return type(error).__name__


def _run(command: Sequence[str], body: bytes, *, seconds: float) -> str | None:
    """Run a program with JSON on its stdin; returns what went wrong. Its stdout is dropped: ours holds results."""
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        return error.strerror or type(error).__name__
    try:
        child.communicate(body, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # with what it started
        child.wait()
        return f"stopped after {seconds:g} s"
    return f"exit status {child.returncode}" if child.returncode else None
