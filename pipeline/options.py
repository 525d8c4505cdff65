"""Options as people see them: described for `--help` and the README, named in errors, shown without secrets.

Everything is read from the fields of a `Section`; no option is described twice.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rtdscan.transforms.settings import Section

# A key is one where a name ends (`encryption_key`, `key_2`) and what its name says: Beam has `enable_hot_key_logging`.
# `kms_key` is the name of a key, not a key.
_KEY = r"(?:access|account|api|auth|private)[_.-]?key|(?<!kms_)keys?_?\d*(?![\w-])"
_SECRET = rf"passw|secret|token|credential|{_KEY}|signature|(?<![a-z])sig(?![a-z])|connection_string"
_COUNTS = ("batch_tokens", "document_tokens")
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(rf"(?i)(?<=[?&])([^=&#\s]*(?:{_SECRET})[^=&#\s]*=)[^&#\s]+")
_ASSIGNED = re.compile(rf"""(?i)([\w.-]*(?:{_SECRET})[\w.-]*["']?\s*[=:]\s*["']?)[^\s,;&"'}}]+""")
_NAMES = {str: "text", bool: "true or false", int: "whole number", float: "number", NoneType: "null", Any: "anything"}


@dataclass(frozen=True, slots=True)
class OptionDoc:
    """One option: `type` and `allowed` in words, `default` in YAML."""

    key: str
    type: str
    default: str
    allowed: str
    description: str

    @property
    def expected(self) -> str:
        """Type and allowed values, for the end of an error message."""
        return f"{self.type}{' ' if self.type.endswith(' of') else ', '}{self.allowed}" if self.allowed else self.type


def describe(cls: type[Section]) -> list[OptionDoc]:
    """All options of a section and of those within it, in the order of their declaration."""
    return list(_describe(cls, ""))


def reference_markdown(cls: type[Section]) -> str:
    """The options as a Markdown table, for the README."""
    rows = [("Key", "Type", "Default", "Allowed", "What it does"), ("---",) * 5]
    rows += [(f"`{o.key}`", o.type, f"`{o.default}`", o.allowed, o.description) for o in describe(cls)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, None for a plain option."""
    if get_origin(field.annotation) is dict:
        return None
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def nearest(name: str, known: Sequence[str]) -> str:
    """Advice for an unknown key: the known one with the same last part, else the most similar one, else all."""
    last = name.rpartition(".")[2]
    same_last = [key for key in known if key.rpartition(".")[2] == last]
    similar_last = {key.rpartition(".")[2]: key for key in reversed(known)}
    for match in (
        *same_last,
        *difflib.get_close_matches(name, known, n=1, cutoff=0.7),
        *(similar_last[part] for part in difflib.get_close_matches(last, similar_last, n=1, cutoff=0.7)),
    ):
        return f"did you mean {match}?"
    return f"known keys: {', '.join(known)}"


def show(value: Any, *, secret: bool = False) -> str:
    """A value in one short line of an error message."""
    text = "***" if secret else json.dumps(redacted_text(value), ensure_ascii=False, default=str)
    return text if len(text) <= 100 else f"{text[:97]}..."


def is_secret(name: str) -> bool:
    """Whether a value under this name must not be shown."""
    return name not in _COUNTS and re.search(_SECRET, name, re.IGNORECASE) is not None


def redacted_text(value: Any) -> Any:
    """The same with `***` for user names, passwords and signatures in the URLs of all texts in it."""
    if isinstance(value, str):
        return _QUERY.sub(r"\1***", _USERINFO.sub("***@", value))
    if isinstance(value, Mapping):
        return {key: redacted_text(inner) for key, inner in value.items()}
    return [redacted_text(inner) for inner in value] if isinstance(value, list | tuple) else value


def redacted(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config that may be shown and saved: `***` for each secret under `beam`, `notify` and in URLs."""
    shown: dict[str, Any] = redacted_text(config)
    if "beam" in shown:
        shown["beam"] = _without_secrets(shown["beam"])
    if isinstance(notify := shown.get("notify"), Mapping):
        shown["notify"] = {**notify, **{name: hide(notify[name]) for name, hide in _NOTIFY.items() if notify.get(name)}}
    return shown


def host_of(url: str) -> str:
    """A URL without what may be secret in it, which is all but the host: many a webhook's path is its password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/***"


def _program_of(command: Any) -> Any:
    """A command without its arguments."""
    return [*command[:1], *("***" for _ in command[1:])] if isinstance(command, list | tuple) else "***"


def resolved(config: Section) -> dict[str, Any]:
    """Every option with its value in types that JSON and YAML know, without secrets; for run.json."""
    return redacted(config.model_dump(mode="json"))


def dump_yaml(config: Section) -> str:
    """`resolved` as a config file; where it holds no secret, reading it gives an equal config."""
    values = resolved(config)
    # PyYAML writes these line breaks of Unicode as they are and folds them when it reads them.
    breaks = any(mark in str(values) for mark in ("\\x85", "\\u2028", "\\u2029"))
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=not breaks)
    return text


def _describe(cls: type[Section], prefix: str) -> Iterator[OptionDoc]:
    for name, field in cls.model_fields.items():
        section = section_of(field)
        if section:
            yield from _describe(section, f"{prefix}{name}.")
            continue
        kind, allowed = _spell(field.annotation, field.metadata)
        default = field.get_default(call_default_factory=True)
        if default is PydanticUndefined:
            default = "required"
        shown = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
        yield OptionDoc(f"{prefix}{name}", kind, shown, allowed, field.description or "")


def _spell(kind: Any, metadata: Sequence[Any] = ()) -> tuple[str, str]:
    """Type and allowed values in words."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _spell(args[0], (*args[1:], *metadata))
    if origin in (Union, UnionType):
        spelled = [_spell(arg, metadata if arg is args[0] else ()) for arg in args]
        return " or ".join(kind for kind, _ in spelled), "; ".join(filter(None, (allowed for _, allowed in spelled)))
    if origin is Literal:
        return (str(args[0]), "") if len(args) == 1 else ("one of", ", ".join(map(str, args)))
    if origin in (tuple, list, Sequence):
        inner, allowed = _spell(args[0])
        return ("list of", allowed) if inner == "one of" else (f"list of {inner}", allowed)
    if origin in (dict, Mapping) or kind is dict:
        return "mapping", ""
    return _NAMES.get(kind) or getattr(kind, "__name__", str(kind)).lower(), " and ".join(_bounds(metadata))


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)
        for name, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            if not isinstance(item, FieldInfo) and getattr(item, name, None) is not None:
                yield f"{words} {getattr(item, name):g}"


_NOTIFY = {"url": lambda url: host_of(str(url)), "command": _program_of}


def _without_secrets(value: Any, *, secret: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(inner, secret=secret or is_secret(str(key))) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(inner, secret=secret) for inner in value]
    if secret and value is not None:
        return "***"
    return _ASSIGNED.sub(r"\1***", value) if isinstance(value, str) else value
