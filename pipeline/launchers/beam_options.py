"""Beam's pipeline options from the config and the command line: names that are known, values of their types.

Beam takes any name, with a warning at best, and of a config's values any type: a mistyped bound of the workers is none.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from rtdscan.pipeline.options import is_secret, show
from rtdscan.transforms.errors import UserError

JOB_SERVERS = ("PortableRunner", "FlinkRunner", "SparkRunner", "PrismRunner")
"""Runners whose server knows more names than Beam's Python does."""

_FLINKS = (
    "checkpointing_interval",
    "execution_retry_delay",
    "max_bundle_size",
    "max_bundle_time_mills",
    "number_of_execution_retries",
    "shutdown_sources_after_idle_ms",
)
"""Whole numbers that Flink's job server knows (FlinkPipelineOptions.java)."""


def pipeline_options(runner: str, options: Mapping[str, Any], arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from the config and, winning over it, the command line.

    Raises:
        UserError: A value is of another type than its option.
    """
    parser = _Parser(runner)
    found, rest = parser.parse_known_args(arguments)
    given = {*vars(found), *(_name(word) for word in rest)}
    typed: dict[str, Any] = {}
    for name, value in options.items():
        typed.update(parser.typed(name, value))
    return PipelineOptions([*arguments], runner=runner, **{k: v for k, v in typed.items() if k not in given})


def check_names(runner: str, options: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """See that all names are known; where others may know them, a job server or a template's launcher, only warn.

    Raises:
        UserError: A name is unknown, or a word after `--` belongs to no option.
    """
    parser = _Parser(runner)
    found, rest = parser.parse_known_args(arguments)
    others = _class(runner) in JOB_SERVERS or "template_location" in {*vars(found), *options}
    unknown = [f"beam.{name}" for name in options if parser.action(name) is None]
    for before, word in zip(["", *rest], rest, strict=False):
        if word.startswith("--"):
            unknown.append(word.partition("=")[0])
        elif not before.startswith("--") or "=" in before:
            raise UserError(f"{word} after `--` belongs to no option; expected --name=value")
    for shown in unknown:
        prefix = "beam." if shown.startswith("beam.") else "--"
        close = difflib.get_close_matches(_name(shown.removeprefix("beam.")), parser.names(), n=1, cutoff=0.7)
        advice = f"; did you mean {prefix}{close[0]}?" if close else ""
        if not others:
            raise UserError(f"{runner}: {shown} is no option that Beam knows{advice}")
        print(f"rtdscan: warning: {shown} is not known here and is passed on as it is{advice}", file=sys.stderr)


class _Parser(_BeamArgumentParser):
    """All options that are known, without their defaults: only what is given is found."""

    def __init__(self, runner: str) -> None:
        super().__init__(allow_abbrev=False)
        for cls in {str(cls): cls for cls in PipelineOptions.__subclasses__()}.values():
            cls._add_argparse_args(self)
        for name in _FLINKS if _class(runner) == "FlinkRunner" else ():
            if self.action(name) is None:  # Beam's Python learns one now and then
                self.add_argument(f"--{name}", type=int)
        for action in self._actions:
            action.default = argparse.SUPPRESS

    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage, which is 150."""
        raise UserError(message.removeprefix("argument "))

    def names(self) -> list[str]:
        """What `action` takes."""
        return [*(_name(flag) for flag in self._option_string_actions), *(action.dest for action in self._actions)]

    def action(self, name: str) -> argparse.Action | None:
        """The option of a name; where the flag is another, as with use_public_ips, that of what it sets."""
        flag = self._option_string_actions.get(f"--{name}")
        return flag or next((action for action in self._actions if action.dest == name), None)

    def typed(self, name: str, value: Any) -> dict[str, Any]:
        """What an option of the config sets: nothing with null; the value as it is where the name is unknown."""
        action = self.action(name)
        if action is None:
            return {name: value}
        if value is None or value == []:
            return {}
        shown = f"beam.{name} is {show(value, secret=is_secret(name))}"
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise UserError(f"{shown}; expected true or false")
            if name == action.dest:
                return {name: value}
            return {action.dest: action.const} if value else {}
        flag = f"--{name}" if f"--{name}" in action.option_strings else action.option_strings[0]
        words = [_spell(one) for one in value] if isinstance(value, list) else [_spell(value)]
        try:
            found = vars(self.parse_args([f"{flag}={word}" for word in words]))[action.dest]
        except UserError as error:
            raise UserError(f"{shown}: {str(error).partition(': ')[2]}") from error
        if isinstance(value, list) and not isinstance(found, list | dict):
            raise UserError(f"{shown}; expected one value")
        # A list stands as it is: an item is not cut at its commas, as it is on a command line.
        return {action.dest: words if isinstance(value, list) and action.type is None else found}


def _class(runner: str) -> str:
    return runner.rpartition(".")[2]


def _name(flag: str) -> str:
    return flag.partition("=")[0].lstrip("-").replace("-", "_")


def _spell(value: Any) -> str:
    """A value of YAML as a command line has it."""
    return json.dumps(value) if isinstance(value, bool | dict) else str(value)
