"""What the import contracts of setup.cfg cannot see: who renames on the device, sizes, and docs/architecture.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "agent"
PACKAGES = ("agent", "cloud_tools", "contract", "edge_relay", "modelpatch")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
MOST_MODULES, MOST_LINES = 20, 400
OWNER = AGENT / "updates" / "slots.py"
RENAMES = frozenset({"rename", "renames", "replace", "move", "atomic_folder"})


def modules() -> list[Path]:
    """Return every module of the agent but the one that may rename."""
    return sorted(path for path in AGENT.rglob("*.py") if path != OWNER)


def renames(source: str) -> Iterator[str]:
    """Return what renames a file or a folder in a module's ``source``: calls, and imports of what would.

    ``text.replace(old, new)`` and ``dataclasses.replace(record, field=...)`` are no renames: a path's ``replace``
    takes one argument. Of a name imported from ``os`` or ``shutil`` the import itself is told.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil", "contract.files"):
            yield from (f"line {node.lineno}: import {alias.name}" for alias in node.names if alias.name in RENAMES)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _renames(node, node.func):
            yield f"line {node.lineno}: {ast.unparse(node.func)}"


def _renames(call: ast.Call, function: ast.Attribute) -> bool:
    if function.attr not in RENAMES:
        return False
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if function.attr != "replace":
        return function.attr != "move" or owner == "shutil"
    return owner == "os" or (owner != "dataclasses" and len(call.args) == 1 and not call.keywords)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(AGENT)))
def test_only_slots_renames_and_the_rest_write_by_the_helpers_for_files(path: Path) -> None:
    assert list(renames(path.read_text())) == []


def test_slots_is_seen_to_rename() -> None:
    assert list(renames(OWNER.read_text()))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("os.rename(a, b)", True),
        ("os.replace(a, b)", True),
        ("path.rename(b)", True),
        ("(folder / 'a').replace(folder / 'b')", True),
        ("shutil.move(a, b)", True),
        ("from os import replace", True),
        ("from contract.files import atomic_folder", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(record)", False),
        ("replace(record, trial=None)", False),
        ("moment.replace(tzinfo=None)", False),
        ("atomic_rename(part, path)", False),
    ],
)
def test_a_rename_is_told_from_what_only_has_its_name(line: str, found: bool) -> None:
    assert bool(list(renames(line))) is found


def rooms() -> list[Path]:
    """Return every folder with modules of ours."""
    return sorted({path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")})


@pytest.mark.parametrize("room", rooms(), ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_can_be_taken_in_at_a_glance(room: Path) -> None:
    modules = [path for path in room.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES
    assert [path.name for path in room.glob("*.py") if len(path.read_text().splitlines()) > MOST_LINES] == []


@pytest.mark.parametrize("room", rooms(), ids=lambda room: str(room.relative_to(ROOT)))
def test_the_map_names_every_room(room: Path) -> None:
    package, *inner = room.relative_to(ROOT).parts
    rows = [row for row in ARCHITECTURE.splitlines() if row.startswith(f"| `{package}")]
    assert any(f"`{name}`" in row or f"{package}/{name}`" in row for row in rows for name in (inner or [package]))


@pytest.mark.parametrize(("path", "name"), re.findall(r"\| `([a-z_0-9/]+\.py)` `(\w+)` \|", ARCHITECTURE))
def test_who_does_it_is_where_the_map_says(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_the_map_answers_for_twenty_verbs() -> None:
    assert len(re.findall(r"\| `[a-z_0-9/]+\.py` `\w+` \|", ARCHITECTURE)) >= 20
