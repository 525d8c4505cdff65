"""Groups of a scan's options that its launcher reads: what is counted, who is told, which cluster runs it."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from rtdscan.pipeline.options import host_of
from rtdscan.transforms.settings import Section


class TallySettings(Section):
    """What is counted besides the whole."""

    by: tuple[str, ...] = Field(
        default=(), description="columns by whose values counts are kept too; those of gates are; acts without a rescan"
    )


class NotifySettings(Section):
    """Who is told when a gate says no or a scan does not finish. The message holds counts only."""

    url: str | None = Field(
        default=None, description="gets a POST of JSON; in a config file only, shown without its path"
    )
    url_env: str | None = Field(default=None, description="environment variable that holds the URL")
    command: tuple[str, ...] = Field(
        default=(), description="program and arguments, run without a shell; JSON on its stdin"
    )
    timeout: float = Field(default=10.0, gt=0, le=600, description="seconds that either may take")

    @field_validator("url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is not None and (not re.match(r"https?://[^/?#\s]", url) or host_of(url) == "***"):
            raise PydanticCustomError("rtdscan", "notify.url is no URL; expected http://… or https://…")
        return url


class RaySettings(Section):
    """The Ray cluster of `runner: ray`."""

    address: str = Field(
        default="auto",
        description="host:port of the cluster's head; auto: $RAY_ADDRESS, else the cluster of this machine",
    )
    memory_per_task: float = Field(
        default=1.5, ge=0, allow_inf_nan=False, description="gigabytes that a task reserves on its node; 0: none"
    )
    tasks_in_flight: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="tasks that Ray is given at once; auto: two for each that its nodes have room for"
    )
    wait_seconds: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="time in which a node with room for a task must be found"
    )

    @field_validator("address")
    @classmethod
    def _direct(cls, address: str) -> str:
        if address != "auto" and not re.fullmatch(r"[^\s/]+:\d{1,5}", address):
            raise PydanticCustomError(
                "rtdscan",
                "ray.address is {address}; expected auto or host:port of the head (not ray://: start the scan on a"
                " machine of the cluster, for example by `ray job submit`)",
                {"address": repr(address)},
            )
        return address
