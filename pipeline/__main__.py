"""`rtdscan PROGRAM ...`: finds the program, reads its options, turns errors into an exit status.

A program is a module with `HELP`, `add_arguments(parser)` and `run(args) -> int`, and, where it has options in YAML,
`CONFIG`, their `Section`, with `ACTING`, the keys of it that act, where not all do. It is imported when it is asked
for, and imports what is heavy when it runs.
"""

import argparse
import difflib
import faulthandler
import importlib
import os
import select
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from rtdscan.pipeline.printing import survive_encoding
from rtdscan.transforms.errors import RtdscanError, UserError

if TYPE_CHECKING:
    from rtdscan.transforms.settings import Section

PROGRAMS: dict[str, tuple[str, str]] = {
    "demo": ("rtdscan.pipeline.demo", "scan the sample corpus that ships inside and show the result"),
    "plan": ("rtdscan.pipeline.plan", "what would be read: files, units, rows, tokens, time (footers only)"),
    "scan": ("rtdscan.pipeline.scan", "the main job: find the words that do not belong, row for row"),
    "report": ("rtdscan.pipeline.report", "one self-contained HTML page about a finished scan"),
    "gate": ("rtdscan.pipeline.gate", "the quality gates again, without scanning; exit status 3 when one fails"),
    "accept": ("rtdscan.pipeline.accept", "make this run the baseline that later runs are compared with"),
    "clean": ("rtdscan.pipeline.clean", "keep and reject rows by what a scan found; mask, find duplicates"),
    "review": ("rtdscan.pipeline.review", "a page: try a text, look through a scan, judge its flags"),
    "evaluate": ("rtdscan.pipeline.evaluate", "how well a model finds known errors"),
    "calibrate": ("rtdscan.pipeline.calibrate", "probabilities and thresholds that mean what they say"),
    "lexicon": ("rtdscan.pipeline.lexicon", "word frequencies of a corpus, frozen into a bundle"),
    "pretrain": ("rtdscan.pipeline.pretrain", "train a generator and a discriminator on your own corpus"),
}
"""Name -> module and one line of help. A program stands here once it exists."""

EXIT_SECONDS = 60.0
"""How long a process may take to end once its work is done."""


class Program(Protocol):
    """What the module of a program offers; `CONFIG: type[Section]` and `ACTING: tuple[str, ...]` are optional."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare positional arguments and flags; config options need none."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit status.

        Args:
            args: What `add_arguments` declared, and `json: bool`, `beam_args: list[str]` (all after `--`), and with
                `CONFIG` also `config: list[Path]` and `set: list[str]`, for `load_config`.
        """


class _Parser(argparse.ArgumentParser):
    """Wrong usage is a UserError like all others: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one program.

    Args:
        argv: Arguments without the name of the program; default: the process's.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong usage or config, 3 a gate said no, 4 OUTPUT is busy.
    """
    survive_encoding()
    try:
        status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:  # closed: `>&-`
            sys.stdout.flush()
        return status
    except SystemExit as done:  # argparse, after --help
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except RtdscanError as error:
        message = " ".join(str(error).splitlines())
        print(f"rtdscan: {message}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("rtdscan: interrupted; run the same command again to resume", file=sys.stderr)
        return 1
    except Exception as error:
        if not (isinstance(error, BrokenPipeError) and _stdout_is_gone()):
            traceback.print_exc()
        return 1


def program() -> NoReturn:
    """`main` as a process that ends, whatever threads a library has left behind: one that waits for a job service was
    once seen to keep a process whose work was done. After EXIT_SECONDS it ends with status 1 and says where it stood.
    """
    status = main()
    if sys.__stderr__ is not None:
        with suppress(OSError, ValueError):  # stderr is closed
            faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=sys.__stderr__)
    sys.exit(status)


def _dispatch(argv: list[str]) -> int:
    # Arrow's own allocators keep what they are given: 32 MB more in a process that walks through a row group of 1 GB.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    cut = argv.index("--") if "--" in argv else len(argv)
    own, beam_args = argv[:cut], argv[cut + 1 :]
    if not own or own[0] in ("-h", "--help"):
        print(_overview(), file=sys.stdout if own else sys.stderr)
        return 0 if own else 2
    if own[0] == "--version":
        from importlib.metadata import version

        print(f"rtdscan {version('rtdscan')}")
        return 0
    name = own[0]
    if name not in PROGRAMS:
        close = difflib.get_close_matches(name, PROGRAMS, n=1)
        advice = f"did you mean {close[0]}?" if close else f"programs: {', '.join(PROGRAMS)}"
        raise UserError(f"there is no program {name!r}; {advice}")
    program = cast(Program, importlib.import_module(PROGRAMS[name][0]))
    options: type[Section] | None = getattr(program, "CONFIG", None)
    acting: Sequence[str] = getattr(program, "ACTING", tuple(options.model_fields) if options else ())
    args = _parser(name, program, options, acting).parse_intermixed_args(own[1:])
    _check_empty(name, args)
    if options:
        _check_sets(name, args.set, options, acting)
    if beam_args:
        _check_beam_arguments(name, beam_args, acting)
    args.beam_args = beam_args
    return program.run(args)


def _overview() -> str:
    width = max(map(len, PROGRAMS))
    programs = "\n".join(f"  {name:{width}}  {line}" for name, (_, line) in PROGRAMS.items())
    return (
        "usage: rtdscan PROGRAM [arguments] [--config FILE] [--set KEY=VALUE] [-- BEAM OPTIONS]\n\n"
        "Finds the words that do not belong in a text corpus.\n\n"
        f"programs:\n{programs}\n\n"
        "`rtdscan PROGRAM --help` shows a program's arguments and options; `rtdscan --version` the version.\n"
        "exit status: 0 done, 1 failed, 2 wrong usage or config, 3 a quality gate said no, 4 OUTPUT is busy"
    )


def _parser(
    name: str, program: Program, options: "type[Section] | None", acting: Sequence[str]
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"rtdscan {name}",
        description=program.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    program.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    if options is not None:
        parser.add_argument(
            "--config", metavar="FILE", type=Path, action="append", default=[], help="options in YAML; repeatable"
        )
        parser.add_argument(
            "--set", metavar="KEY=VALUE", action="append", default=[], help="one option, VALUE in YAML; repeatable"
        )
        parser.epilog = _options_help(options, acting)
    return parser


def _options_help(options: "type[Section]", acting: Sequence[str]) -> str:
    from rtdscan.pipeline.options import describe

    width = max(60, min(shutil.get_terminal_size().columns, 120)) - 2
    lines = ["options for --config and --set, with their defaults:"]
    for option in (option for option in describe(options) if option.key.partition(".")[0] in acting):
        text = f"{option.description} [{option.expected}]"
        lines.append(f"  {option.key}: {option.default}")
        lines += textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    if "beam" in acting:
        lines += ["", "everything after `--` goes to Beam, e.g. -- --temp_location=/tmp/x"]
    if set(acting) < set(options.model_fields):
        lines += ["", "a --config file may have those of `rtdscan scan` as well; they do nothing here"]
    return "\n".join(lines)


def _check_empty(program: str, args: argparse.Namespace) -> None:
    """An empty path would be the working directory: `rtdscan scan data "$OUT"` with OUT unset."""
    for name, value in vars(args).items():
        if name != "set" and (value == "" or (isinstance(value, list) and "" in value)):
            raise UserError(f"{name.upper()} is empty; is a variable unset? See `rtdscan {program} --help`")


def _check_sets(name: str, sets: Sequence[str], options: "type[Section]", acting: Sequence[str]) -> None:
    """Refuse an option that would do nothing here; one that there is nowhere is for `load_config` to tell."""
    for key in (option.partition("=")[0].strip() for option in sets):
        first = key.partition(".")[0]
        if first in options.model_fields and first not in acting:
            takes = " and ".join(f"{section}.*" for section in acting)
            raise UserError(
                f"--set {key}: rtdscan {name} takes {takes} only; all else is for `rtdscan scan`, with the same INPUT"
                " and OUTPUT (no network runs for a new threshold)"
            )


def _check_beam_arguments(name: str, beam_args: Sequence[str], acting: Sequence[str]) -> None:
    from rtdscan.pipeline.options import is_secret

    if "beam" not in acting:
        raise UserError(f"rtdscan {name} takes nothing after `--`; found {beam_args[0]}")
    for flag in (arg.partition("=")[0] for arg in beam_args if arg.startswith("--")):
        if flag == "--runner":
            raise UserError("--runner after `--`: write --set runner=NAME instead")
        if is_secret(flag):
            raise UserError(
                f"{flag}: others can read a secret on a command line; put it under `beam:` in a config file"
            )


def _stdout_is_gone() -> bool:
    """Whether the reader of stdout went away (`rtdscan plan X | head`); then nothing more is written to it."""
    try:
        stdout = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file, or closed
        return False
    poll = select.poll()
    poll.register(stdout, select.POLLOUT)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)  # Python flushes once more at its exit
    return True


if __name__ == "__main__":
    program()
