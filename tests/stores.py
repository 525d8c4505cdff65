"""A real S3 server for tests, and a connection to it that can be cut."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

ACCOUNT = "123456789012"
BUCKET = "bucket"


@dataclass
class Store:
    """An S3 server with one bucket, and a proxy in front of it."""

    server: ThreadedMotoServer
    proxy: "Proxy"

    @property
    def url(self) -> str:
        host, port = self.server.get_host_and_port()
        return f"http://{host}:{port}"

    def client(self, name: str = "s3") -> Any:
        return boto3.client(
            name,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="root",
            aws_secret_access_key="root",
        )

    def upload(self, folder: Path, prefix: str) -> None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def put(self, key: str, data: bytes) -> None:
        """Past HTTP, so that 10,000 take seconds."""
        s3_backends[ACCOUNT]["aws"].put_object(BUCKET, key, data)

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Everything below a prefix, by what follows it."""
        keys = s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys
        return {key.removeprefix(prefix): keys[key].value for key in sorted(keys) if key.startswith(prefix)}

    def unfinished_uploads(self) -> int:
        return len(s3_backends[ACCOUNT]["aws"].buckets[BUCKET].multiparts)


@contextmanager
def serving() -> Iterator[Store]:
    """The server, empty but for the bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port())
    store = Store(server, proxy)
    try:
        s3_backends.reset()
        store.client().create_bucket(Bucket=BUCKET)
        yield store
    finally:
        proxy.close()
        server.stop()


@dataclass
class Proxy:
    """Passes bytes on, until it is cut: then all connections end and none is taken.

    Attributes:
        target: Where to.
        requests: First lines of all requests that came by, such as "PUT /bucket/key".
        cut_before: A pattern; the first request that fits is not passed on, and the connection is cut for good.
    """

    target: tuple[str, int]
    requests: list[str] = field(default_factory=list)
    cut_before: str | None = None
    _open: list[socket.socket] = field(default_factory=list)
    _cut: bool = False

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._cut = True
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        self._cut, self.cut_before = False, None

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                here.close()
                continue
            there = socket.create_connection(self.target)
            self._open += [here, there]
            for source, sink, looked_at in ((here, there, True), (there, here, False)):
                threading.Thread(target=self._pass, args=(source, sink, looked_at), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, looked_at: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if looked_at and (line := re.match(rb"([A-Z]+ \S+) HTTP/1", data)):
                    self.requests.append(line[1].decode())
                    if self.cut_before and re.match(self.cut_before, self.requests[-1]):
                        self.cut()
                        return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
