"""`python -m rtdscan.pipeline`: what it does before a program runs, and after one fails."""

import argparse
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rtdscan.pipeline import __main__ as cli
from rtdscan.pipeline.config import ScanConfig, describe, load_config
from rtdscan.transforms.errors import BusyError, EngineError, UserError

HEAVY = ("apache_beam", "torch", "transformers", "pyarrow", "numpy", "openvino", "tokenizers", "ray", "pandas")
Run = Callable[[argparse.Namespace], int]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], list[argparse.Namespace]]:
    """Installs `rtdscan try INPUT... OUTPUT`, which does what it is given; returns the list of its calls."""

    def install(run: Run, *, config: bool = True) -> list[argparse.Namespace]:
        calls: list[argparse.Namespace] = []

        def add_arguments(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("inputs", nargs="+", metavar="INPUT", help="what to read")
            parser.add_argument("output", metavar="OUTPUT")
            parser.add_argument("--quiet", action="store_true")

        def record(args: argparse.Namespace) -> int:
            calls.append(args)
            return run(args)

        module = ModuleType("rtdscan_try")
        vars(module).update(HELP="Tries things; 100% of them.", add_arguments=add_arguments, run=record)
        if config:
            vars(module)["CONFIG"] = ScanConfig
        monkeypatch.setitem(sys.modules, "rtdscan_try", module)
        monkeypatch.setitem(cli.PROGRAMS, "try", ("rtdscan_try", "tries"))
        return calls

    return install


def fails(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def process(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    how = ["-c", code] if code else ["-m", "rtdscan.pipeline"]
    return subprocess.run([sys.executable, *how, *arguments], capture_output=True, text=True, timeout=60, check=False)


# Help


def test_help_lists_the_programs_and_imports_nothing_heavy() -> None:
    check = (
        "import sys; from rtdscan.pipeline.__main__ import main; status = main(['--help']);"
        f"print('heavy:', [m for m in {(*HEAVY, 'pydantic', 'yaml')} if m in sys.modules]); sys.exit(status)"
    )
    done = process(code=check)
    assert done.returncode == 0
    assert "heavy: []" in done.stdout
    for name, (_, line) in cli.PROGRAMS.items():
        assert f"  {name}" in done.stdout
        assert line in done.stdout


def test_a_thread_that_is_left_behind_does_not_keep_the_process() -> None:
    """A library's; the test's own ends it after a minute, and then nothing has ended the process before."""
    code = (
        "import sys, threading, time; import rtdscan.pipeline.__main__ as cli; cli.EXIT_SECONDS = 0.5;"
        "threading.Thread(target=lambda: time.sleep(50)).start(); sys.argv = ['rtdscan', '--version']; cli.program()"
    )
    done = process(code=code)
    assert done.returncode == 1
    assert done.stdout.startswith("rtdscan ")
    assert "Timeout" in done.stderr
    assert process("--version").returncode == 0


@pytest.mark.parametrize("name", list(cli.PROGRAMS))
def test_each_program_exists_and_its_help_imports_nothing_heavy(name: str) -> None:
    check = (
        f"import sys; from rtdscan.pipeline.__main__ import main; status = main(['{name}', '--help']);"
        f"print('heavy:', [m for m in {HEAVY} if m in sys.modules]); sys.exit(status)"
    )
    done = process(code=check)
    assert done.returncode == 0, done.stderr
    assert f"usage: rtdscan {name}" in done.stdout
    assert "heavy: []" in done.stdout


def test_the_help_of_a_program_ends_with_its_options(
    program: Callable[[Run], object], capsys: pytest.CaptureFixture[str]
) -> None:
    program(lambda args: 0)
    assert cli.main(["try", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Tries things; 100% of them." in shown
    assert "INPUT [INPUT ...] OUTPUT" in " ".join(shown.split())
    options = shown[shown.index("options for --config") :]
    places = [options.index(f"\n  {option.key}: {option.default}\n") for option in describe(ScanConfig)]
    assert places == sorted(places)
    assert max(map(len, shown.splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rtdscan {importlib.metadata.version('rtdscan')}\n"


# Arguments


def test_arguments_reach_the_program(program: Callable[[Run], list[argparse.Namespace]], tmp_path: Path) -> None:
    calls = program(lambda args: 3)
    (tmp_path / "c.yaml").write_text("threads: 2\n", encoding="utf-8")
    line = ["try", "a", "--set", "unit.text_mb=1", "b c", "--quiet", "out", "--config", str(tmp_path / "c.yaml")]
    assert cli.main([*line, "--set=window=64", "--", "--temp_location=x", "--", "y"]) == 3
    (args,) = calls
    assert (args.inputs, args.output, args.quiet, args.json) == (["a", "b c"], "out", True, False)
    assert args.beam_args == ["--temp_location=x", "--", "y"]
    config = load_config(ScanConfig, files=args.config, sets=args.set)
    assert (config.threads, config.unit.text_mb, config.window) == (2, 1.0, 64)


def test_two_calls_do_not_share_their_options(program: Callable[[Run], list[argparse.Namespace]]) -> None:
    calls = program(lambda args: 0)
    assert [cli.main(["try", "a", "b", "--set", "threads=2"]), cli.main(["try", "a", "b", "--json"])] == [0, 0]
    assert [(args.set, args.json) for args in calls] == [(["threads=2"], False), ([], True)]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (["tyr", "a"], "there is no program 'tyr'; did you mean try?"),
        (["xyzzy"], "there is no program 'xyzzy'; programs: "),
        (["--wrong"], "there is no program '--wrong'"),
        (["try", "a"], "the following arguments are required: OUTPUT; see `rtdscan try --help`"),
        (["try", "a", "b", "--quie"], "unrecognized arguments: --quie; see `rtdscan try --help`"),
        (["try", "a", "b", "--set"], "expected one argument"),
        (["try", "a", "b", "--", "--runner=FlinkRunner"], "write --set runner=NAME"),
        (["try", "a", "b", "--", "--s3_secret_access_key=hunter2"], "--s3_secret_access_key: others can read"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    program: Callable[[Run], list[argparse.Namespace]], capsys: pytest.CaptureFixture[str], line: list[str], part: str
) -> None:
    calls = program(lambda args: 0)
    assert cli.main(line) == 2
    said = capsys.readouterr()
    assert said.err.startswith("rtdscan: ")
    assert said.err.count("\n") == 1
    assert part in said.err
    assert "hunter2" not in said.err
    assert (said.out, calls) == ("", [])


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("demo|", "OUTPUT"),
        ("plan|", "INPUT"),
        ("plan|a||b", "INPUT"),
        ("scan|a|", "OUTPUT"),
        ("scan||b", "INPUT"),
        ("report|", "OUTPUT"),
        ("report|a|--to=", "TO"),
        ("gate|", "OUTPUT"),
        ("accept|", "OUTPUT"),
        ("clean|a|", "CLEANED"),
        ("clean||b", "OUTPUT"),
        ("review|", "OUTPUT"),
        ("evaluate|", "LABELLED"),
        ("evaluate|a|--plot|", "PLOT"),
        ("calibrate|a|--output=", "OUTPUT"),
        ("lexicon|a|", "PATHS"),
        ("pretrain|a|", "MODEL"),
    ],
)
def test_an_empty_path_is_not_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, name: str
) -> None:
    """`rtdscan scan data "$OUT"` with OUT unset wrote into the working directory."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split("|")) == 2
    assert f"rtdscan: {name} is empty; is a variable unset? See `rtdscan " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_at_all_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: rtdscan PROGRAM" in capsys.readouterr().err


def test_a_program_without_options_takes_none(
    program: Callable[..., list[argparse.Namespace]], capsys: pytest.CaptureFixture[str]
) -> None:
    program(lambda args: 0, config=False)
    assert cli.main(["try", "a", "b", "--set", "threads=1"]) == 2
    assert cli.main(["try", "a", "b", "--", "--x"]) == 2
    assert "rtdscan try takes nothing after `--`; found --x" in capsys.readouterr().err
    assert cli.main(["try", "a", "b", "--json"]) == 0


# Ends


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("no such\nthing"), 2, "rtdscan: no such thing\n"),
        (EngineError("no CUDA"), 1, "rtdscan: no CUDA\n"),
        (BusyError("busy"), 4, "rtdscan: busy\n"),
        (KeyboardInterrupt(), 1, "rtdscan: interrupted; run the same command again to resume\n"),
    ],
)
def test_an_expected_end_is_one_line(
    program: Callable[[Run], object],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    program(fails(error))
    assert cli.main(["try", "a", "b"]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [ZeroDivisionError("odd"), BrokenPipeError("a worker's, not stdout's")])
def test_an_unexpected_error_shows_where(
    program: Callable[[Run], object], capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    program(fails(error))
    assert cli.main(["try", "a", "b"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert str(error) in shown


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys, types; from rtdscan.pipeline import __main__ as cli\n"
        "def run(args):\n    for _ in range(100_000): print('a line')\n    return 0\n"
        "sys.modules['t'] = types.SimpleNamespace(HELP='', add_arguments=lambda parser: None, run=run)\n"
        "cli.PROGRAMS['t'] = ('t', ''); sys.exit(cli.main(['t']))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"a line\n"
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=60) == 1


def test_the_demo_passed_over_config_and_failed_gates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs: list[ScanConfig] = []

    def scan(inputs: list[str], output: str, *, config: ScanConfig, **_: object) -> SimpleNamespace:
        configs.append(config)
        return SimpleNamespace(exit_status=3, to_json=dict)

    monkeypatch.setattr("rtdscan.pipeline.scanning.scan", scan)
    mine = tmp_path / "mine.yaml"
    mine.write_text("unit: {text_mb: 2}\nsuggest: {in_context: false}\nreport: {text: false}\n")
    given = ["--config", str(mine), "--set", "output.columns=[id]"]
    assert cli.main(["demo", str(tmp_path / "out"), "--json", *given]) == 3
    assert cli.main(["demo", str(tmp_path / "out"), "--json"]) == 3
    capsys.readouterr()
    ours, own = configs
    assert (ours.unit.text_mb, ours.suggest.in_context, ours.output.columns) == (2, False, ("id",))
    assert (own.unit.text_mb, own.suggest.in_context, own.output.columns) == (0.1, True, ("source",))
    assert (ours.report.by, ours.report.text, ours.input.id, own.report.by) == (("source",), False, "id", ("source",))


def test_the_process_exits_with_the_status() -> None:
    wrong = process("nonsense")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("rtdscan: there is no program 'nonsense'")
    script = Path(sys.executable).with_name("rtdscan")
    if script.exists():
        done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False, env=dict(os.environ))
        assert (done.returncode, done.stdout[:8]) == (0, "rtdscan ")
