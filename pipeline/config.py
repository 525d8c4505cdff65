"""Loads, merges, checks, documents and shows options; and the options of a scan.

A value is the default, unless a `--config` file says otherwise (later files win), unless `--set` does. Each program
declares a `Section` of its own; what stands in the fields is all that `--help`, the README's reference and the errors
know. Nothing heavy is imported here: `--help` waits for it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from rtdscan.pipeline.located_yaml import Key, dotted, parse, read_text
from rtdscan.pipeline.options import (
    describe,
    dump_yaml,
    is_secret,
    nearest,
    redacted,
    reference_markdown,
    resolved,
    section_of,
    show,
)
from rtdscan.pipeline.sections import NotifySettings, RaySettings, TallySettings
from rtdscan.transforms.errors import UserError
from rtdscan.transforms.gates import Gate, GateError, full_key, in_full, parse_gates
from rtdscan.transforms.settings import ScoreSettings, Section

C = TypeVar("C", bound=Section)

__all__ = ["ScanConfig", "describe", "dump_yaml", "load_config", "redacted", "reference_markdown", "resolved"]


class InputSettings(Section):
    """What is read of each row, and of how many."""

    text: str | None = Field(
        default=None,
        description="text column, `a.b` for a nested one; default: the only text column, or text/content/document",
    )
    id: str | None = Field(default=None, description="column that identifies a document; carried along, type kept")
    sample: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the corpus to scan, in whole work units chosen by a hash: the same ones each time",
    )


class UnitSettings(Section):
    """How the corpus is cut into units of work."""

    text_mb: float = Field(
        default=4.0, gt=0, allow_inf_nan=False, description="megabytes of text of a work unit; one unit gives one shard"
    )


class LogSettings(Section):
    """What may stand in logs."""

    text: bool = Field(
        default=False, description="the summary may quote documents (worst spans); otherwise counts and ids only"
    )


class ReportSettings(Section):
    """What the page about a scan shows."""

    enabled: bool = Field(default=True, description="write OUTPUT/report.html at the end of a scan")
    by: tuple[str, ...] = Field(default=(), description="columns by whose values the report compares documents")
    text: bool = Field(
        default=True, description="the report quotes documents; otherwise counts, ids and names of files only"
    )


class ScanConfig(ScoreSettings):
    """All options of `rtdscan scan`."""

    input: InputSettings = InputSettings()
    unit: UnitSettings = UnitSettings()
    runner: str = Field(
        default="local",
        description="what runs the graph: local (also DirectRunner), ray, or a Beam runner such as FlinkRunner",
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="worker processes (ray: tasks at once); auto: as many as cores and memory allow"
    )
    wait: bool = Field(
        default=True,
        description="stay until a Beam runner's job has ended; false: submit it; the same command later finishes",
    )
    on_bad_file: Literal["fail", "quarantine"] = Field(
        default="fail", description="files that cannot be read: exit status 1 once the others are done, or only listed"
    )
    log: LogSettings = LogSettings()
    gates: dict[str, Gate] = Field(
        default={}, description="bounds: name -> metric (default: the name), max, min, by (a column)"
    )
    tally: TallySettings = TallySettings()
    notify: NotifySettings = NotifySettings()
    report: ReportSettings = ReportSettings()
    ray: RaySettings = RaySettings()
    beam: dict[str, Any] = Field(default={}, description="pipeline options for Beam by name; also after `--`")

    @property
    def counted(self) -> tuple[str, ...]:
        """Columns by whose values counts are kept."""
        return tuple(sorted({*self.tally.by, *(gate.by for gate in self.gates.values() if gate.by)}))

    @field_validator("gates", mode="before")
    @classmethod
    def _parsed_gates(cls, gates: Any) -> Any:
        if not isinstance(gates, Mapping):
            return gates
        try:
            return parse_gates(gates)
        except GateError as error:
            raise PydanticCustomError(
                "rtdscan", "{message}", {"message": str(error), "key": ("gates", *error.key)}
            ) from error

    @field_validator("runner")
    @classmethod
    def _known_runner(cls, runner: str) -> str:
        if runner not in ("local", "ray") and not re.fullmatch(r"([A-Za-z_]\w*\.)*[A-Z]\w*Runner", runner):
            raise PydanticCustomError(
                "rtdscan",
                "runner is {runner}; expected local (also DirectRunner), ray, or a Beam runner such as FlinkRunner",
                {"runner": json.dumps(runner)},
            )
        if runner.endswith("DaskRunner"):
            raise PydanticCustomError("rtdscan", "runner is DaskRunner, which loses elements silently; use local")
        return runner

    @field_validator("beam")
    @classmethod
    def _beam_names(cls, beam: dict[str, Any]) -> dict[str, Any]:
        for name in beam:
            if name == "runner" or not re.fullmatch(r"[A-Za-z]\w*", name):
                raise PydanticCustomError(
                    "rtdscan",
                    "beam has the key {name}; expected Beam's option names without dashes, `runner` not among them",
                    {"name": json.dumps(name)},
                )
        return beam


def load_config(
    cls: type[C],
    *,
    files: Sequence[Path | str] = (),
    sets: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> C:
    """Merge and check options.

    Args:
        cls: What the options are.
        files: YAML files; sections are merged, a later file wins; lists are replaced as a whole, and by {} sections.
        sets: `a.b=value`, the value in YAML; these win over files.
        extra: What the program itself has decided, by nested name; wins over everything.
        base: What holds where files and sets say nothing, by nested name.

    Raises:
        UserError: One line with file and line (or `--set`), key, value, and what was expected.
    """
    values: dict[str, Any] = dict(base or {})
    places: dict[Key, str] = {}
    for new, where, folder in (*map(_read_file, map(Path, files)), *map(_read_set, sets)):
        if isinstance(new.get("allow"), str) and "allow" in cls.model_fields:
            new["allow"] = _read_words(folder / new["allow"], where[("allow",)])
        if isinstance(new.get("gates"), dict) and "gates" in cls.model_fields:
            new["gates"], where = _in_full(new["gates"], where)
            if new["gates"].get("drift") is False:  # all of them
                new["gates"] |= {name: False for name in values.get("gates", {}) if name.startswith("drift.")}
        values = _merge(values, new)
        places.update(where)
    values = _without_empty(cls, _merge(values, extra or {}))
    _refuse_booleans(cls, values, places)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        keys = [_key_of(values, problem) for problem in problems]
        more = len(set(keys)) - 1
        suffix = f" (and {more} more wrong option{'s' if more > 1 else ''})" if more else ""
        raise UserError(_explain(cls, values, places, keys[0], problems[0]) + suffix) from error


_Source = tuple[dict[str, Any], dict[Key, str], Path]
"""Values, the place of each key for messages, and the folder that relative paths start from."""


def _read_file(path: Path) -> _Source:
    values, where = parse(read_text(path, f"config file {path}"), lambda line: f"{path}:{line}")
    if not isinstance(values, dict | None):
        raise UserError(f"{path}:1: expected a mapping of keys to values, e.g. `model: default`; found {show(values)}")
    return values or {}, where, path.parent


def _read_set(option: str) -> _Source:
    name, equals, text = option.partition("=")
    key = tuple(name.strip().split("."))
    if not equals or not all(key):
        raise UserError(f"--set {name}: expected KEY=VALUE, e.g. --set thresholds.flag=0.7")
    place = f"--set {name}"
    value, inner = parse(text, lambda line: place)
    if key[0] == "notify" and _holds_secret(key, value):
        raise UserError(f"{place}: others can read a secret on a command line; put it into a --config file")
    if key[0] == "beam" and any(is_secret(str(part)) for rest in ((), *inner) for part in (*key, *rest)):
        raise UserError(f"{place}: others can read a secret on a command line; put it into a --config file")
    where: dict[Key, str] = {key[:depth]: place for depth in range(1, len(key) + 1)}
    where.update({(*key, *rest): place for rest in inner})
    for part in reversed(key):
        value = {part: value}
    return value, where, Path()


def _holds_secret(key: Key, value: Any) -> bool:
    """Whether an option of `notify` tells what only the receiver should know: many a webhook's URL is its password."""
    for part in reversed(key):
        value = {part: value}
    return bool(redacted(value) != value)


def _read_words(path: Path, place: str) -> list[str]:
    text = read_text(path, f"{place}: allow, as text, names a word list (words themselves: [a, b]); {path}")
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _in_full(gates: dict[str, Any], where: Mapping[Key, str]) -> tuple[dict[str, Any], dict[Key, str]]:
    """Gates, and places of keys, with full names of gates: what is spelled in two ways would not be merged."""
    try:
        named = in_full(gates)
    except GateError as error:
        raise UserError(f"{_locate(where, ('gates', *error.key))}: {error}") from error
    return named, {("gates", *full_key(key[1:])) if key[0] == "gates" else key: place for key, place in where.items()}


def _merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        old = merged.get(key)
        if isinstance(old, dict) and value is None:
            continue  # a section whose lines are all commented out says nothing
        # An empty mapping takes all away, as `gates: {}` says.
        merged[key] = _merge(old, value) if value and isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _without_empty(cls: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same without sections that are null: a YAML section whose lines are all commented out."""
    kept = dict(values)
    for name, field in cls.model_fields.items():
        section = section_of(field)
        if name in kept and kept[name] is None and isinstance(field.default, Section | dict):
            del kept[name]
        elif section and isinstance(kept.get(name), dict):
            kept[name] = _without_empty(section, kept[name])
    return kept


def _refuse_booleans(cls: type[Section], values: Mapping[str, Any], places: Mapping[Key, str]) -> None:
    """Pydantic takes `true` for 1; nobody who writes `threads: true` means that."""
    for option in describe(cls):
        value = _find(values, option.key.split("."))
        if isinstance(value, bool) and "number" in option.type:
            place = _locate(places, tuple(option.key.split(".")))
            raise UserError(f"{place}: {option.key} is {show(value)}; expected {option.expected}")


def _find(values: Any, key: Sequence[str | int]) -> Any:
    """The value at `key`, None where there is none."""
    for part in key:
        if isinstance(values, Mapping):
            values = values.get(part)
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return None
    return values


def _key_of(values: Any, problem: ErrorDetails) -> Key:
    """The key that a problem is about: pydantic's location without the names of a union's branches."""
    location = problem.get("ctx", {}).get("key", problem["loc"])
    key: list[str | int] = []
    for part in location:
        holder = _find(values, key)
        if isinstance(holder, Mapping) or (isinstance(holder, list | tuple) and isinstance(part, int)):
            key.append(part)
    unknown = _find(values, key)
    while problem["type"] == "extra_forbidden" and isinstance(unknown, Mapping) and unknown:
        key.append(next(iter(unknown)))
        unknown = unknown[key[-1]]
    return tuple(key)


def _locate(places: Mapping[Key, str], key: Key) -> str:
    """The place of a key, else of the section that it should be in."""
    for depth in range(len(key), 0, -1):
        if key[:depth] in places:
            return places[key[:depth]]
    return "config"


def _explain(cls: type[Section], values: Any, places: Mapping[Key, str], key: Key, problem: ErrorDetails) -> str:
    place, name = _locate(places, key), dotted(key)
    options = describe(cls)
    if problem["type"] in ("rtdscan", "value_error"):
        return f"{place}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] == "missing":
        return f"{place}: {name} is missing and has no default"
    unknown = problem["type"] == "extra_forbidden"
    value = show(_find(values, key), secret=key[:1] == ("notify",) or (unknown and is_secret(name)))
    if unknown:
        return f"{place}: unknown key {name} (value {value}); {nearest(name, [option.key for option in options])}"
    names = dotted(tuple(part for part in key if isinstance(part, str)))
    for option in options:
        if option.key == names:
            return f"{place}: {name} is {value}; expected {option.expected}"
    inner = ", ".join(option.key for option in options if option.key.startswith(f"{names}."))
    return f"{place}: {name} is {value}; expected a section with the keys {inner}"
