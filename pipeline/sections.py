"""Groups of a scan's options that its launcher reads: what is counted, who is told."""

import re

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from rtdscan.pipeline.options import host_of
from rtdscan.transforms.settings import Section


class TallySettings(Section):
    """What is counted besides the whole."""

    by: tuple[str, ...] = Field(
        (), description="columns by whose values counts are kept too; those of gates are; acts without a rescan"
    )


class NotifySettings(Section):
    """Who is told when a gate says no or a scan does not finish. The message holds counts only."""

    url: str | None = Field(None, description="gets a POST of JSON; in a config file only, shown without its path")
    url_env: str | None = Field(None, description="environment variable that holds the URL")
    command: tuple[str, ...] = Field((), description="program and arguments, run without a shell; JSON on its stdin")
    timeout: float = Field(10.0, gt=0, le=600, description="seconds that either may take")

    @field_validator("url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is not None and (not re.match(r"https?://[^/?#\s]", url) or host_of(url) == "***"):
            raise PydanticCustomError("rtdscan", "notify.url is no URL; expected http://… or https://…")
        return url
