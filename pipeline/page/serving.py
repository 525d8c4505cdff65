"""An HTTP server around the page: who may ask, what a browser may do with it, and how it ends."""

import json
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from rtdscan.pipeline.page import markup
from rtdscan.pipeline.page.address import is_loopback, url_of, without_port
from rtdscan.pipeline.page.blocks import theme
from rtdscan.pipeline.page.settings import may_enter

HEADERS = {
    # A browser that shows this page asks no other host for anything, whatever the page says. Gradio needs its inline
    # scripts and evaluates small functions.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

GRACE_SECONDS = 1
"""Time that open connections have when the server ends; pages keep one open for ever."""

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Guarded:
    """Adds headers; on loopback it answers only those who call it by a name of this machine.

    A web page elsewhere could point a name of its own at 127.0.0.1 and have its visitor's browser read the corpus.
    """

    def __init__(self, app: App, *, loopback: bool) -> None:
        """Wrap an application."""
        self._app = app
        self._loopback = loopback

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if self._loopback and not is_loopback(without_port(host)):
            start = {"type": "http.response.start", "status": 421, "headers": [(b"content-type", b"text/plain")]}
            await send(start)
            return await send({"type": "http.response.body", "body": b"rtdscan review: call this page by localhost\n"})

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        return await self._app(scope, receive, sending)


def serve(
    page: gr.Blocks, taken: socket.socket, *, host: str, users: Mapping[str, str], on_ready: Callable[[str], None]
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        page: The page.
        taken: A listening socket.
        host: As given; decides whether only this machine may ask.
        users: Who may log in; nobody has to where it is empty.
        on_ready: Called with the URL once the page can be opened.
    """
    port = taken.getsockname()[1]

    def enter(name: str, password: str) -> bool:
        return may_enter(users, name, password)

    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.queue(api_open=False),
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        run_history=False,
        auth=enter if users else None,
        auth_message="rtdscan review" if users else None,
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        css=markup.template("review.css"),
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # open pages at the end are no error
    settings = uvicorn.Config(
        Guarded(app, loopback=is_loopback(host)),
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    server = _Server(settings, on_ready=lambda: on_ready(url_of(host, port)))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run(sockets=[taken])
    except KeyboardInterrupt:  # uvicorn has ended in order, then raises the signal again
        pass
    finally:
        taken.close()


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def announce(url: str, *, output: str | None, as_json: bool) -> None:
    """Say where the page is."""
    if as_json:
        print(json.dumps({"url": url, "output": output}), flush=True)
    else:
        print(f"review: {url}", flush=True)
        print("rtdscan: Ctrl-C ends it", file=sys.stderr, flush=True)
