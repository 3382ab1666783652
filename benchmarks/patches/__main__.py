"""Owns the command line of the patch benchmark; see the package. Exit codes: 0 done, 1 something failed, 2 usage."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.patches.records import Made, load_pairs
from benchmarks.patches.results import load_results
from benchmarks.patches.running import jobs, run_jobs
from contract.errors import KinwatchError

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "patches.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KinwatchError as error:
        print(f"benchmarks.patches: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks.patches: interrupted; what is measured is kept", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.patches", description="Patches of models, measured.")
    commands = parser.add_subparsers(required=True, metavar="pairs|run|page|all")
    for name, run, text in (
        ("pairs", _pairs, "train and export the pairs that are not there yet"),
        ("run", _run, "measure what is not measured yet with this code"),
        ("page", _page, "write the page and its chart from the results"),
        ("all", _all, "all three"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        command.add_argument("--pairs", nargs="+", metavar="NAME", default=[], help="names, beginnings, or patterns")
        if name in ("run", "all"):
            command.add_argument(
                "--tools", nargs="+", metavar="NAME", default=[], help="as --pairs: modelpatch, zstd"
            )
            command.add_argument("--again", action="store_true", help="measure what is measured, too")
            command.add_argument("--json", action="store_true", help="print the results")
        if name in ("page", "all"):
            command.add_argument("--out", type=Path, default=PAGE, help="the page (its chart lies beside it)")
    return parser


def _pairs(arguments: argparse.Namespace) -> int:
    from benchmarks.patches.pairs import catalogue, make_pair

    wanted = [pair for pair in catalogue() if _named(pair.name, arguments.pairs)]
    with _bar() as bar:
        task = bar.add_task("", total=len(wanted))
        for pair in wanted:
            bar.update(task, description=pair.name)
            make_pair(pair)
            bar.advance(task)
    return 0


def _run(arguments: argparse.Namespace) -> int:
    results = load_results()
    todo = jobs(_chosen(arguments.pairs), arguments.tools)
    with _bar() as bar:
        task = bar.add_task("")
        failures = run_jobs(
            todo,
            results,
            lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            again=arguments.again,
        )
    if arguments.json:
        sys.stdout.write(results.to_bytes().decode())
    for line in failures:
        print(f"benchmarks.patches: {line}", file=sys.stderr)
    return 1 if failures else 0


def _page(arguments: argparse.Namespace) -> int:
    from benchmarks.patches.chart import draw
    from benchmarks.patches.page import write_page

    results, pairs = load_results(), {pair.name: pair for pair in _chosen(arguments.pairs)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw(results, pairs, arguments.out.with_suffix(".svg"))
    write_page(results, pairs, arguments.out)
    return 0


def _all(arguments: argparse.Namespace) -> int:
    return _pairs(arguments) or _run(arguments) or _page(arguments)


def _chosen(names: Sequence[str]) -> list[Made]:
    found = [pair for name, pair in load_pairs().items() if _named(name, names)]
    if not found:
        raise KinwatchError("no such pair is made yet: run `python -m benchmarks.patches pairs`")
    return found


def _named(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(name.startswith(each) or fnmatch(name, each) for each in wanted)


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on stderr, so that ``--json`` stays clean."""
    columns = (TextColumn("{task.description:<60}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


if __name__ == "__main__":
    sys.exit(main())
