"""Which requests `rtdscan review` answers. Loads no Gradio."""

import asyncio
from typing import Any

import pytest

from rtdscan.pipeline.page.guard import MOST_BYTES, Guard

HERE = {"host": "localhost:7860"}
THERE = {"host": "review.example.com"}


def ask(headers: dict[str, str], *, method: str = "POST", loopback: bool = True) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to a request, of an application that lets every site read it."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cors = [(b"access-control-allow-origin", b"https://evil.com"), (b"access-control-allow-credentials", b"true")]
        cookie = (b"set-cookie", b"token=x; Secure; SameSite=none")
        await send({"type": "http.response.start", "status": 200, "headers": [*cors, cookie]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    length = {"content-length": "10"} if method == "POST" else {}
    told = [(name.encode(), value.encode()) for name, value in {**length, **headers}.items()]
    scope: Any = {"type": "http", "method": method, "headers": told}
    asyncio.run(Guard(app, loopback=loopback)(scope, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "127.0.0.2"])
def test_names_of_this_machine(host: str) -> None:
    assert ask({"host": host})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "[::ffff:127.0.0.1]:7860", "127.evil.example", "", "0.0.0.0:7860"])
def test_other_names_are_refused_on_loopback(host: str) -> None:
    assert ask({"host": host})[0] == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**HERE, "origin": "http://localhost:7860"}, 200),
        ({**HERE, "origin": "http://evil.test:8977"}, 403),
        ({**HERE, "origin": "http://localhost:3000"}, 403),
        ({**HERE, "origin": "null"}, 403),
        ({**THERE, "origin": "https://review.example.com"}, 200),
        ({**THERE, "origin": "https://evil.com"}, 403),
        ({**HERE, "origin": "https://review.example.com", "x-forwarded-host": "review.example.com"}, 200),
        ({**THERE, "origin": "https://evil.com", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
        ({**THERE, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ({**THERE, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
        ({**THERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),  # another page's form
        ({**THERE, "sec-fetch-site": "none"}, 200),
        (THERE, 200),  # no browser
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
def test_scripts_of_other_sites_are_refused(headers: dict[str, str], status: int, loopback: bool) -> None:
    """Any website could read the corpus and store verdicts as whoever was logged in."""
    if loopback and headers["host"] == THERE["host"]:
        headers = {**headers, "host": "localhost"}
        status = 403 if headers.get("origin") == "https://review.example.com" else status
    assert ask(headers, loopback=loopback)[0] == status


def test_a_link_elsewhere_may_lead_here() -> None:
    assert (
        ask({**THERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, method="GET", loopback=False)[0]
        == 200
    )


def test_no_answer_is_for_another_site() -> None:
    _, headers = ask({**THERE, "origin": "https://review.example.com"}, loopback=False)
    assert not [name for name in headers if name.startswith("access-control")]
    assert headers["set-cookie"] == "token=x; Secure; SameSite=lax"
    assert "default-src 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("length", "status"), [(str(MOST_BYTES), 200), (str(MOST_BYTES + 1), 413), ("", 411), ("-1", 411)]
)
def test_requests_are_bounded(length: str, status: int) -> None:
    """300 MB from somebody who was not logged in were read into memory."""
    assert ask({**HERE, "content-length": length})[0] == status
