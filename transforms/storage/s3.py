"""The client behind Beam's S3 file system: shared, bounded in time, one put an object.

Beam 2.77's own makes a new boto3 client for every call (0.05 s of CPU), tries again for 7 minutes whatever went wrong,
a missing credential too, and uploads in three requests or more, of which a failure leaves the first ones behind. This
one has the same methods. What a user can set is what boto3 takes: AWS_ENDPOINT_URL, AWS_PROFILE, AWS_REGION and the
other variables, ~/.aws, a machine's role; and, for a Beam runner, `beam:` options beginning with `s3_`.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from rtdscan.transforms.errors import UnservedError

OPTIONS = (
    "s3_access_key_id",
    "s3_secret_access_key",
    "s3_session_token",
    "s3_endpoint_url",
    "s3_region_name",
    "s3_api_version",
    "s3_verify",
    "s3_disable_ssl",
)
"""Of Beam's S3Options, in the order that `_client` takes them."""

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS, CONNECTIONS = 10, 60, 6, 32
"""Bounds of a request; with what botocore waits between attempts at most two minutes where nobody answers."""

NO_ANSWER = 400
"""The code of a failure without one: Beam would try again without a code, or with one from 500 on."""


class Client:
    """S3 as `apache_beam.io.aws.s3io` calls it."""

    def __init__(self, options: Any) -> None:
        """Take the process's client for these options."""
        values = _values(options)
        around = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
        self._client = _client(around, *(values[name] for name in OPTIONS))
        self._uploads: dict[str, list[bytes]] = {}

    def get_object_metadata(self, request: Any) -> Any:
        """Look at an object."""
        found = _call(self._client.head_object, Bucket=request.bucket, Key=request.object)
        return _messages().Item(
            found["ETag"], request.object, found["LastModified"], found["ContentLength"], found["ContentType"]
        )

    def get_range(self, request: Any, start: int, end: int) -> bytes:
        """Read bytes from `start` to before `end`."""

        def read() -> bytes:
            where = {"Bucket": request.bucket, "Key": request.object, "Range": f"bytes={start}-{end - 1}"}
            return bytes(self._client.get_object(**where)["Body"].read())

        try:
            return read()
        except _transport_errors():  # a body that ends early; botocore tries again only before the first byte
            return bytes(_call(read))

    def list(self, request: Any) -> Any:
        """List a page of objects."""
        token = {"ContinuationToken": request.continuation_token} if request.continuation_token else {}
        page = _call(self._client.list_objects_v2, Bucket=request.bucket, Prefix=request.prefix, **token)
        messages = _messages()
        items = [
            messages.Item(entry["ETag"], entry["Key"], entry["LastModified"], entry["Size"])
            for entry in page.get("Contents", [])
        ]
        return messages.ListResponse(items, page.get("NextContinuationToken"))

    def create_multipart_upload(self, request: Any) -> Any:
        """Begin to collect an object's bytes; nothing is sent."""
        self._uploads[request.object] = []
        return _messages().UploadResponse(request.object)

    def upload_part(self, request: Any) -> Any:
        """Collect bytes."""
        self._uploads[request.upload_id].append(request.bytes)
        return _messages().UploadPartResponse("", request.part_number)

    def complete_multipart_upload(self, request: Any) -> None:
        """Put the object: whole, or not at all. A stream that is closed again after a failure puts nothing."""
        parts = self._uploads.pop(request.upload_id, None)
        if parts is not None:
            _call(self._client.put_object, Bucket=request.bucket, Key=request.object, Body=b"".join(parts))

    def delete(self, request: Any) -> None:
        """Delete an object."""
        _call(self._client.delete_object, Bucket=request.bucket, Key=request.object)

    def delete_batch(self, request: Any) -> Any:
        """Delete up to 1,000 objects."""
        objects = {"Objects": [{"Key": key} for key in request.objects]}
        told = _call(self._client.delete_objects, Bucket=request.bucket, Delete=objects)
        failed = told.get("Errors", [])
        messages = _messages()
        return messages.DeleteBatchResponse(
            [entry["Key"] for entry in told.get("Deleted", [])],
            [entry["Key"] for entry in failed],
            [messages.S3ClientError(entry["Message"], entry["Code"]) for entry in failed],
        )


def install() -> None:
    """Put `Client` in the place of Beam's.

    Raises:
        UnservedError: boto3 is not installed.
    """
    if find_spec("boto3") is None:
        raise UnservedError("s3:// paths need boto3: pip install boto3")
    from apache_beam.io.aws import s3io

    s3io.boto3_client.Client = Client


def _values(options: Any) -> dict[str, Any]:
    if isinstance(options, dict):
        return {name: options.get(name) for name in OPTIONS}
    from apache_beam.options.pipeline_options import S3Options

    given = options.view_as(S3Options)
    return {name: getattr(given, name) for name in OPTIONS}


@lru_cache(maxsize=8)
def _client(
    around: tuple[tuple[str, str], ...],
    key: str | None,
    secret: str | None,
    token: str | None,
    endpoint: str | None,
    region: str | None,
    version: str | None,
    verify: str | None,
    disable_ssl: bool | None,
) -> Any:
    """A boto3 client; threads may share it. `around`: what boto3 takes from the environment."""
    import boto3
    from botocore.config import Config

    bounds: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_pool_connections": CONNECTIONS,
    }
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        bounds["retries"] = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    return boto3.session.Session().client(
        "s3",
        region_name=region,
        api_version=version,
        use_ssl=not disable_ssl,
        verify=verify,
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(**bounds),
    )


def _call(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call S3; raise what Beam expects, in words that say what to do."""
    try:
        return function(**arguments)
    except Exception as error:  # ClientError, and a class for every way not to reach S3
        response = getattr(error, "response", None) or {}
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", NO_ANSWER)
        said = f"{error}{_hint(error, status)}"
        raise _messages().S3ClientError(said, status if 400 <= status < 500 else NO_ANSWER) from error


def _hint(error: Exception, status: int) -> str:
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if name == "NoRegionError":
        return "; set AWS_REGION"
    if status in (401, 403):
        return "; check the credential, and its rights to list, read, write and delete there"
    if name in ("EndpointConnectionError", "ConnectTimeoutError"):
        return " (AWS_ENDPOINT_URL)" if os.environ.get("AWS_ENDPOINT_URL") else ""
    return ""


def _messages() -> Any:
    from apache_beam.io.aws.clients.s3 import messages

    return messages


def _transport_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    return HTTPClientError, IncompleteReadError
