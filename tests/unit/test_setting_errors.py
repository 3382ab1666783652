"""An error about a setting: the same sentence for a command line and for a browser, and options that there are."""

import ast
import re
from pathlib import Path

import click
import pytest

from cloud_tools.command_line import cloud_tools, main
from cloud_tools.commands.terminal import option_name, options_named
from cloud_tools.setting_errors import FetchError, Sentence, Setting, SettingError
from contract.errors import InputError, PeerError

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# Of pip, dpkg-deb, click, iotcore and setpriv; and what a module says of the whole command line.
FOREIGN = {
    *("--listen", "--port", "--log-level", "--pdeathsig"),
    *("--cache", "--loglevel=error", "--no-deps", "--only-binary=:all:", "--quiet", "--fsys-tarfile", "--help"),
}


def options(command: click.Command) -> set[str]:
    """Return the options of a command and of all below it."""
    found = {name for parameter in command.params for name in parameter.opts}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*map(options, below))


def test_every_setting_is_an_option_of_some_command() -> None:
    assert {option_name(setting) for setting in Setting} <= options(cloud_tools)


def test_a_sentence_is_told_in_the_names_of_whoever_shows_it() -> None:
    said = Sentence(Setting.MAX_UPDATE_BYTES, " needs ", Setting.BASE)
    assert said.named(option_name) == "--max-update-bytes needs --base"
    assert said.named(lambda setting: f"<{setting.value}>") == "<max_update_bytes> needs <base>"
    assert str(said) == "max update bytes needs base"


def test_an_error_says_which_setting_it_is_about() -> None:
    error = SettingError("too few crops, which ", Setting.FINE_TUNE, " needs; train without ", Setting.BASE)
    assert error.setting is Setting.FINE_TUNE
    assert str(error) == "too few crops, which fine tune needs; train without base"


@pytest.mark.parametrize(("raised", "kind"), [(SettingError, InputError), (FetchError, PeerError)])
def test_a_command_names_the_option_and_keeps_who_is_at_fault(raised: type[Exception], kind: type[Exception]) -> None:
    with pytest.raises(kind) as error, options_named():
        raise raised("give an own copy: ", Setting.VIDEO, " FILE")
    assert str(error.value) == "give an own copy: --video FILE"
    assert not isinstance(error.value, raised)


def test_the_command_line_prints_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inputs", "--video", __file__, "--weights", "nowhere.h5"]) == 1
    assert capsys.readouterr().err.startswith("cloud_tools: --weights nowhere.h5: no such file")


def test_no_domain_room_writes_an_option() -> None:
    found = [
        f"{path}:{node.lineno}: {node.value}"
        for path in sorted((REPOSITORY / "cloud_tools").rglob("*.py"))
        if "commands" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value not in FOREIGN and re.search("--[a-z]", node.value)
    ]
    assert found == []
