"""Options of the page, and who may log in."""

import getpass
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from rtdscan.transforms.errors import UserError
from rtdscan.transforms.settings import EngineName, Precision, Section


class UsersSettings(Section):
    """Who may log in. Needed where the page can be reached from other machines."""

    env: str | None = Field(default=None, description="environment variable that holds NAME:PASSWORD, several on lines")
    file: Path | None = Field(default=None, description="file that holds NAME:PASSWORD, one a line; for your eyes only")


class ReviewConfig(Section):
    """All options of `rtdscan review`."""

    model: str = Field(default="default", description="bundle or model to try; with OUTPUT: that of the scan")
    engine: EngineName = Field(default="auto", description="what runs the network")
    precision: Precision = Field(default="auto", description="number format of the network's arithmetic")
    window: int | None = Field(default=None, ge=8, description="tokens of a window; default: the bundle's")
    threads: int | None = Field(default=None, ge=1, description="threads of the network; default: one for each core")
    load: bool = Field(
        default=True, description="load the model when the page is opened; otherwise when it is first needed"
    )
    rows: int = Field(default=25, ge=5, le=200, description="documents on a page of the list")
    search_seconds: float = Field(
        default=3.0, gt=0, le=60, description="a search for words stops after so long, to be resumed"
    )
    reviewer: str | None = Field(
        default=None,
        description="name under which verdicts are stored where nobody logs in; default: who started the program",
    )
    users: UsersSettings = UsersSettings()


def read_users(settings: UsersSettings) -> dict[str, str]:
    """Names and passwords; empty where none are configured.

    Raises:
        UserError: What was configured is not there, empty, or not NAME:PASSWORD.
    """
    found: dict[str, str] = {}
    if settings.env is not None:
        value = os.environ.get(settings.env)
        if not value:
            raise UserError(f"users.env: the environment variable {settings.env} is not set; expected NAME:PASSWORD")
        found |= _parsed(value, where=f"the environment variable {settings.env}")
    if settings.file is not None:
        try:
            text = settings.file.expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"users.file: cannot read {settings.file}: {error}") from error
        found |= _parsed(text, where=str(settings.file))
    return found


def _parsed(text: str, *, where: str) -> dict[str, str]:
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.strip().partition(":")
        if not (colon and name.strip() and password):
            raise UserError(f"{where}, line {number}: expected NAME:PASSWORD")  # the line itself may hold a password
        users[name.strip()] = password
    if not users:
        raise UserError(f"{where} names nobody; expected NAME:PASSWORD, one a line")
    return users


def may_enter(users: Mapping[str, str], name: str, password: str) -> bool:
    """Whether name and password fit; takes as long whoever asks."""
    known = users.get(name)
    fits = hmac.compare_digest((known or "").encode(), password.encode())
    return known is not None and fits


def default_reviewer(config: ReviewConfig) -> str:
    """The name for verdicts where nobody logs in."""
    if config.reviewer:
        return clean_name(config.reviewer)
    try:
        return clean_name(getpass.getuser())
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "reviewer"


def clean_name(name: str) -> str:
    """A name in one short line of printable characters."""
    plain = "".join(c for c in re.sub(r"\s+", " ", name) if c.isprintable())
    return plain.strip()[:80] or "reviewer"
