"""What stands before the page: whom it answers, what a browser may do with the answers, how large a request may be."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rtdscan.pipeline.page.address import is_this_machine, without_port

HEADERS = {
    # A browser that shows this page asks no other host for anything, whatever the page says. Gradio needs its inline
    # scripts and evaluates small functions.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

MOST_BYTES = 4 << 20
"""Of a request: a text that is tried is the largest; Gradio would read any into memory, before it asks for a login."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI application around another one, which it protects from web pages elsewhere.

    A page elsewhere could have its visitor's browser read the corpus or store verdicts: by a name of its own that it
    points at 127.0.0.1, or, with the visitor's cookie, by requests from its scripts.
    """

    def __init__(self, app: App, *, loopback: bool) -> None:
        """Wrap an application.

        Args:
            app: The application.
            loopback: Only this machine may ask, by one of its names.
        """
        self._app = app
        self._loopback = loopback

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope)
        if refusal is not None:
            status, why = refusal
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            return await send({"type": "http.response.body", "body": f"rtdscan review: {why}\n".encode()})

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *(
                        _own(name, value)
                        for name, value in message["headers"]
                        if not name.startswith(b"access-control")
                    ),
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        return await self._app(scope, receive, sending)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason where a request is not answered."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if self._loopback and not is_this_machine(without_port(headers.get(b"host", ""))):
            return 421, "call this page by localhost"
        opened = scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == "navigate"  # a link may lead here
        if not opened and _from_elsewhere(headers):
            return 403, "another site's page asks; behind a proxy, let it pass the header Host on"
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            length = headers.get(b"content-length", "")
            if not length.isdigit():
                return 411, "say how long the request is"
            if int(length) > MOST_BYTES:
                return 413, f"a request may have {MOST_BYTES >> 20} MiB at most"
        return None


def _from_elsewhere(headers: dict[bytes, str]) -> bool:
    """Whether a browser says that a page of another site asks. What is no browser says nothing, and has no cookies."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get(b"origin")
    hosts = (headers.get(b"host"), headers.get(b"x-forwarded-host"))
    return origin is not None and origin not in [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]


def _own(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header of the answer; no cookie goes along with another site's requests."""
    return name, value.replace(b"SameSite=none", b"SameSite=lax") if name == b"set-cookie" else value
