"""What README, docs, help texts and shipped files name exists: commands, options, targets, keys and paths."""

import argparse
import dataclasses
import importlib.util
import re
import shlex
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from agent import command_line as agent_line
from agent.config import AgentConfig
from cloud_tools.command_line import cloud_tools
from edge_relay import command_line as relay_line
from edge_relay.config import RelayConfig
from modelpatch import cli

ROOT = Path(__file__).resolve().parents[2]
# What was decided is history: an old decision may name what is gone.
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if "adr" not in path.parts)
SHIPPED = sorted((ROOT / "systemd").iterdir())
NOT_YET = "not there yet"
# Words of what is planned: they may stand only in a paragraph that says that it is not there yet.
PLANNED = re.compile(r"Home Assistant|Celery|SD-card image|staged rollout|agent's\s+export|agent\s+exported|figure8")
OUTPUTS = (
    "demo-run",
    "keys",
    "site",
    "crops",
    "release",
    "people",
)  # folders that a person makes by following a page


@dataclass
class Command:
    """A program, or a command of one: its options, its own commands, and its help."""

    options: set[str]
    commands: dict[str, "Command"]
    texts: list[str]

    def all(self) -> Iterator["Command"]:
        """Return this and every command below."""
        yield self
        for command in self.commands.values():
            yield from command.all()


def of_argparse(parser: argparse.ArgumentParser) -> Command:
    options, commands, texts = set(), {}, [parser.description or "", parser.epilog or ""]
    for action in parser._actions:
        options |= set(action.option_strings)
        texts.append(str(action.help or ""))
        if isinstance(action, argparse._SubParsersAction):
            commands = {name: of_argparse(inner) for name, inner in action.choices.items()}
    return Command(options, commands, texts)


def of_click(command: click.Command) -> Command:
    options = {
        "-h",
        "--help",
        *(opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)),
    }
    inner = command.commands if isinstance(command, click.Group) else {}
    texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
    return Command(options, {name: of_click(one) for name, one in inner.items()}, texts)


PROGRAMS = {
    "agent": of_argparse(agent_line.parser()),
    "edge_relay": of_argparse(relay_line.parser()),
    "cloud_tools": of_click(cloud_tools),
    "modelpatch": of_argparse(cli._parser()),
}
OPTIONS = {option for program in PROGRAMS.values() for command in program.all() for option in command.options}
TARGETS = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
# Where a command can stand in a line of code: not in a sentence, nor in a drawing of the programs.
START = re.compile(
    r"(?:^\s*|[;&$=] ?|sudo )(?:python[0-9.]* -m |[\w/.]*/)?(agent|edge_relay|cloud_tools|modelpatch)(?= +[a-z-])"
)


def code_of(text: str) -> Iterator[str]:
    """Return what a Markdown text has as code: spans, and lines of blocks."""
    fences = re.split(r"(?m)^```.*$", text)
    for block in fences[1::2]:
        yield from block.replace("\\\n", " ").splitlines()
    for prose in fences[0::2]:
        yield from re.findall(r"(?m)^ {4}(\S.*)$", prose)
        yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


def wrong_in(line: str) -> list[str]:
    """Return what a line of code names that no program has."""
    wrong = []
    for found in START.finditer(line):
        said = re.split(r"[#;,|&]|\s{2,}# ", line[found.end() :])[0]
        wrong += _walk(found[1], PROGRAMS[found[1]], _words(said))
    wrong += [
        f"make {target}" for target in re.findall(r"(?:^|[\s;&])make ([a-z]+)\b", line) if target not in TARGETS
    ]
    wrong += [f"python -m {name}" for name in re.findall(r"python[0-9.]* -m ([\w.]+)", line) if not _module(name)]
    return wrong


def _words(said: str) -> list[str]:
    try:
        return shlex.split(said)
    except ValueError:
        return said.split()


def _walk(name: str, command: Command, words: list[str]) -> list[str]:
    while command.commands and words and not words[0].startswith("-"):
        if not re.fullmatch(r"[a-z][a-z0-9-]*", words[0]):
            return []  # a placeholder
        if words[0] not in command.commands:
            return [f"{name} {words[0]}"]
        name, command = f"{name} {words[0]}", command.commands[words.pop(0)]
    named = [option for word in words for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", word)]
    return [f"{name} {option}" for option in named if option not in command.options]


def _module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def keys_of(kind: type[Any]) -> dict[str, set[str]]:
    """Return the keys of a configuration by table; "" is the top."""
    tables: dict[str, set[str]] = {"": set()}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            tables[name] = {field.name for field in dataclasses.fields(hint)}
        tables[""].add(name)
    return tables


TABLES = [keys_of(AgentConfig), keys_of(RelayConfig)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_names_commands_and_options_that_exist(path: Path) -> None:
    wrong = [found for line in code_of(path.read_text()) for found in wrong_in(line)]
    own = re.findall(r"`(--[a-z][a-z-]*)[^`]*`", path.read_text())
    known = OPTIONS | options_of_modules(path.read_text())
    assert [*wrong, *(option for option in own if option not in known)] == []


def options_of_modules(text: str) -> set[str]:
    """Return the options in the source of modules that a page runs with ``python -m``, benchmarks and the demo."""
    found = set()
    for name in re.findall(r"python[0-9.]* -m ([\w.]+)", text):
        spec = importlib.util.find_spec(name) if _module(name) else None
        for folder in spec.submodule_search_locations or [] if spec else []:
            found |= {
                o for path in Path(folder).rglob("*.py") for o in re.findall(r'"(--[a-z-]+)"', path.read_text())
            }
        if spec and spec.origin:
            found |= set(re.findall(r'"(--[a-z-]+)"', Path(spec.origin).read_text()))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_names_paths_that_exist(path: Path) -> None:
    text = path.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (path.parent / link).exists()]
    tops = {top.name for top in ROOT.iterdir() if top.is_dir()}
    for span in re.findall(r"`([\w.-]+/[\w./-]+)`", text):
        if span.split("/")[0] in tops and not (ROOT / span).exists() and not span.startswith(OUTPUTS):
            missing.append(span)
    assert missing == []


@pytest.mark.parametrize("path", [*DOCUMENTS, *SHIPPED], ids=lambda path: str(path.relative_to(ROOT)))
def test_keys_of_a_configuration_exist(path: Path) -> None:
    named = re.findall(r"\[([a-z]+)\] (?:`)?([a-z_]+)\b", path.read_text())
    tables = {table for tables in TABLES for table in tables}
    wrong = [
        f"[{table}] {key}"
        for table, key in named
        if table in tables and not any(key in tables.get(table, ()) for tables in TABLES)
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [*DOCUMENTS, *SHIPPED], ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_planned_is_said_not_to_be_there_yet(path: Path) -> None:
    separator = r"\n(?=#|\S+ = )|\n\n|\n(?=- )" if path.suffix == ".md" else r"\n(?=[^#])"
    paragraphs = re.split(separator, path.read_text())
    assert [found[0] for part in paragraphs if NOT_YET not in part and (found := PLANNED.search(part))] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_names_commands_that_exist(path: Path) -> None:
    text = path.read_text()
    lines = re.findall(r"(?m)^ExecStart=(.*)", text) + re.findall(r"`([^`]+)`", text)
    assert [found for line in lines for found in wrong_in(line)] == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_names_commands_and_options_that_exist(name: str) -> None:
    wrong = []
    for command in PROGRAMS[name].all():
        for text in command.texts:
            wrong += [found for span in re.findall(r"`([^`]+)`", text) for found in wrong_in(span)]
            wrong += [option for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text) if option not in OPTIONS]
            wrong += PLANNED.findall(text)
    assert wrong == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_tells_its_version(name: str) -> None:
    assert "--version" in PROGRAMS[name].options


def test_the_list_of_the_agents_commands_is_whole() -> None:
    listed = re.search(r"(?m)^agent ([a-z|]+) --config", str(agent_line.__doc__))
    assert listed
    assert listed[1].split("|") == list(agent_line.COMMANDS) == list(PROGRAMS["agent"].commands)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("agent dance --config agent.toml", ["agent dance"]),
        ("agent run --config agent.toml --fast", ["agent run --fast"]),
        ("cloud_tools keys rotate site/", ["cloud_tools keys rotate"]),
        ("cloud_tools keys init site/ --keys keys/", []),
        ("/opt/kinwatch/bin/edge_relay --config relay.toml --verbose", ["edge_relay --verbose"]),
        ("make coffee", ["make coffee"]),
        ("python -m modelpatch paint OLD", ["modelpatch paint"]),
        ("python -m benchmarks.nothing", ["python -m benchmarks.nothing"]),
        ("the agent watches", []),
        ("cd kinwatch && agent dance", ["agent dance"]),
    ],
)
def test_a_promise_that_is_not_kept_is_found(line: str, wrong: list[str]) -> None:
    assert wrong_in(line) == wrong
