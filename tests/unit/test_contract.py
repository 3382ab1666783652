"""The contract: errors, files, configuration, checks, manifest, release targets, notifications."""

import contextlib
import dataclasses
import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import sd_notify
from contract.broker import parse_broker
from contract.config import load_config
from contract.errors import ConfigError, InputError, PeerError, missing_package, one_line, run_command
from contract.files import atomic_file, atomic_write, json_bytes, read_capped
from contract.manifest import (
    Compiled,
    Manifest,
    Preprocess,
    SelfTest,
    Stage,
    TensorSpec,
    Thresholds,
    load_bundle,
    parse_manifest,
)
from contract.release import (
    FileEntry,
    Patch,
    ReleaseTarget,
    channel_pointer,
    parse_channel_pointer,
    parse_release_target,
)

DIGEST = "0" * 63 + "a"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def small_manifest() -> Manifest:
    image, features = TensorSpec((1, 16, 16, 3), "float32"), TensorSpec((1, 1, 1, 4), "float32")
    return Manifest(
        model="household",
        version=3,
        created="2026-01-01T00:00:00Z",
        labels=("ada", "björn"),
        stages=(
            Stage("backbone.tflite", DIGEST, 10, image, features, False, ("CONV_2D",)),
            Stage("head.tflite", DIGEST, 20, features, TensorSpec((1, 2), "float32")),
        ),
        preprocess=Preprocess((16, 16)),
        thresholds=Thresholds(0.6, 3),
        selftest=SelfTest("selftest.npz", DIGEST, 30, ((0.25, 0.75),), 0.01),
        metrics={"accuracy": 0.9},
    )


def edited(path: list[str | int], value: object) -> bytes:
    """The small manifest's JSON with one value replaced (deleted when the value is ...)."""
    top = json.loads(small_manifest().to_bytes())
    place = top
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(top).encode()


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("agent.toml: unknown key x"), 78, "prog: agent.toml: unknown key x"),
        (PeerError("http://r: no answer"), 1, "prog: http://r: no answer"),
        (OSError(28, "No space left on device", "/data/x"), 1, "prog: /data/x: the disk is full"),
        (KeyboardInterrupt(), 130, "prog: interrupted"),
    ],
)
def test_an_error_becomes_one_line_and_an_exit_code(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert run_command("prog", fail) == code
    assert capsys.readouterr().err == text + "\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("my  video.avi: no frame"), "my  video.avi: no frame"),
        (InputError("x" * 300), "x" * 300),
        (OSError(28, "No space left on device", "/data/x"), "/data/x: the disk is full"),
        (OSError("cannot\nidentify"), "cannot identify"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (RuntimeError("x" * 300), "x" * 197 + "..."),
    ],
)
def test_whatever_the_error_it_is_said_in_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line


def test_a_missing_package_names_the_extra_that_brings_it(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    assert run_command("agent", fail) == 1
    assert capsys.readouterr().err == "agent: the Python package cv2 is missing: pip install 'kinwatch[agent]'\n"


def test_a_missing_module_of_ours_is_a_fault() -> None:
    with pytest.raises(ModuleNotFoundError):
        missing_package("agent", ModuleNotFoundError("No module named 'agent.x'", name="agent.x"))


@pytest.mark.parametrize(("program", "package"), [("cloud_tools", "click"), ("edge_relay", "aiohttp")])
def test_a_program_without_its_extra_says_so_in_one_line(program: str, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from {program}.__main__ import main"
    code += "; sys.exit(main(['--config', 'relay.toml'] if 'relay' in main.__module__ else ['--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{package} is missing: pip install 'kinwatch[" in done.stderr


def test_a_bug_is_not_hidden_as_a_clear_line() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command("prog", lambda: 1 // 0)


# --- files ----------------------------------------------------------------------------------------------------------


def test_atomic_write_replaces_the_file_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    atomic_write(path, b"old")
    atomic_write(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    atomic_write(path, b"old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_the_same_value_gives_the_same_json() -> None:
    assert json_bytes({"b": 1, "a": [0.5]}) == json_bytes({"a": [0.5], "b": 1})


def test_a_file_over_its_cap_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert read_capped(tmp_path / "f", 5) == b"12345"
    with pytest.raises(InputError, match="longer than 4 bytes"):
        read_capped(tmp_path / "f", 4)


# --- configuration --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Camera:
    source: str = "/dev/video0"
    pace: float = 1.0


@dataclasses.dataclass(frozen=True)
class Config:
    id: str
    data: Path
    camera: Camera
    names: tuple[str, ...] = ()
    tries: int = 3
    token: str | None = None

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError("tries must be at least 1")


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return load_config(path, Config)


def test_a_configuration_file_fills_its_dataclass(tmp_path: Path) -> None:
    got = config(tmp_path, 'id="porch"\ndata="state"\nnames=["a","b"]\n[camera]\npace=2\n')
    assert got == Config("porch", tmp_path / "state", Camera("/dev/video0", 2.0), ("a", "b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id="a"\ndata="d"\n[camera]\nsourse="x"', r"unknown key camera\.sourse \(did you mean source\?\)"),
        ('id="a"\ndata="d"\nzzz=1', r"unknown key zzz \(known: "),
        ('data="d"', "missing key id"),
        ('id=3\ndata="d"', "id must be a string, not 3"),
        ('id="a"\ndata=""', "data must be a path"),
        ('id="a"\ndata="d"\ncamera=1', "camera must be a table"),
        ('id="a"\ndata="d"\ntries=true', "tries must be a whole number"),
        ('id="a"\ndata="d"\ntries=0', "tries must be at least 1"),
        ('id="a"\ndata="d"\nnames=[1]', r"names\[\] must be a string"),
        ("id=", "c.toml: "),
        ('id="a"\ndata="d"\n[camera]\npace=nan', r"camera\.pace must be a number, not nan"),
        ('id="a"\ndata="d"\n[camera]\npace=-inf', r"camera\.pace must be a number, not -inf"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, text)


@pytest.mark.parametrize("host", ["a..b", ".", "x" * 64])
def test_a_broker_whose_host_can_be_none_is_refused_before_anything_connects(host: str) -> None:
    with pytest.raises(InputError, match="a broker is written"):
        parse_broker(f"mqtt://user:secret@{host}:1883")
    assert parse_broker("mqtt://[::1]:1").host == "::1"


def test_a_missing_configuration_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.toml: No such file"):
        load_config(tmp_path / "none.toml", Config)


# --- manifest -------------------------------------------------------------------------------------------------------


def test_a_manifest_round_trips() -> None:
    manifest = small_manifest()
    assert parse_manifest(manifest.to_bytes()) == manifest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schema"], 4, "schema 4"),
        (["model"], "../x", "not a plain name"),
        (["version"], True, "version must be a whole number"),
        (["labels"], ["ada", "ada"], "labels must differ"),
        (["labels"], ["ada", "unknown"], "none may be 'unknown'"),
        (["labels"], ["ada"], "gives .* for 1 labels"),
        (["stages"], [], "stages must not be empty"),
        (["stages", 0, "file"], "a/b", "not a plain name"),
        (["stages", 0, "file"], ".hidden", "not a plain name"),
        (["stages", 1, "file"], "backbone.tflite", "two files have the same name"),
        (["stages", 1, "file"], "release.json", "two files have the same name"),
        (["stages", 0, "sha256"], "A" * 64, "SHA-256"),
        (["stages", 0, "input", "dtype"], "complex64", "dtype"),
        (["stages", 0, "input", "shape"], [1, 1, -4], "shape"),
        (["stages", 1, "input", "shape"], [1, 9], "takes"),
        (["preprocess", "size"], [16, 17], "the first stage takes"),
        (["preprocess", "resize"], "pad", "resize 'pad' is not known"),
        (["thresholds", "accept"], 1.5, "accept must be from 0 to 1"),
        (["selftest", "expected"], [[0.5]], "one value a label"),
        (["selftest", "expected"], [], "must not be empty"),
        (["selftest"], ..., "selftest: must be an object"),
    ],
)
def test_a_wrong_manifest_names_the_field(path: list[str | int], value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_manifest(edited(path, value))


def with_compiled_head(**changes: Any) -> Manifest:
    """The small manifest, whose head was compiled for an accelerator too."""
    head = small_manifest().stages[1]
    compiled = Compiled(**{"file": "head_edgetpu.tflite", "sha256": DIGEST, "size": 25} | changes)
    stages = (small_manifest().stages[0], dataclasses.replace(head, edge_tpu=True, compiled=compiled))
    return dataclasses.replace(small_manifest(), stages=stages)


def test_a_compiled_file_is_a_file_of_the_bundle_of_a_schema_that_older_programs_refuse() -> None:
    manifest = with_compiled_head()
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert set(manifest.files()) == {"backbone.tflite", "head.tflite", "head_edgetpu.tflite", "selftest.npz"}
    assert (manifest.schema, small_manifest().schema) == (3, 1)
    assert b"compiled" not in small_manifest().to_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "head.tflite"}, "two files have the same name"),
        ({"file": "../x"}, "not a plain name"),
        ({"sha256": "x"}, "SHA-256"),
        ({"size": 0}, "size must be from 1"),
    ],
)
def test_a_wrong_compiled_file_names_the_field(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_manifest(with_compiled_head(**changes).to_bytes())


def test_unknown_fields_of_a_manifest_pass() -> None:
    assert parse_manifest(edited(["from_the_future"], {"x": 1})) == small_manifest()


@given(st.sampled_from(list(json.loads(small_manifest().to_bytes()))), JSON)
def test_any_value_in_a_manifest_is_read_or_refused(key: str, value: object) -> None:
    with contextlib.suppress(InputError):
        parse_manifest(edited([key], value))


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "no manifest"])
def test_a_damaged_bundle_is_refused_by_file(tmp_path: Path, damage: str) -> None:
    contents = {"backbone.tflite": b"b" * 10, "head.tflite": b"h" * 20, "selftest.npz": b"s" * 30}
    top = json.loads(small_manifest().to_bytes())
    for part in (*top["stages"], top["selftest"]):
        part["sha256"] = hashlib.sha256(contents[part["file"]]).hexdigest()
        (tmp_path / part["file"]).write_bytes(contents[part["file"]])
    (tmp_path / "release.json").write_text(json.dumps(top))
    assert load_bundle(tmp_path).version == 3
    head = tmp_path / "head.tflite"
    if damage == "missing":
        head.unlink()
    elif damage == "no manifest":
        (tmp_path / "release.json").unlink()
    else:
        head.write_bytes(b"h" * 19 if damage == "short" else b"x" * 20)
    with pytest.raises(InputError, match="no bundle" if damage == "no manifest" else "head.tflite"):
        load_bundle(tmp_path)


# --- release target -------------------------------------------------------------------------------------------------


def test_a_release_target_round_trips() -> None:
    target = ReleaseTarget(
        "household",
        2,
        {"head.tflite": FileEntry(DIGEST, 9)},
        (Patch("head.tflite", "b" * 64, "c" * 64, 5),),
        50,
        "s",
        3,
    )
    assert parse_release_target(json.loads(json.dumps(target.custom())), "t") == target
    assert target.contents() == {DIGEST: 9, "c" * 64: 5}


@given(JSON)
def test_any_custom_data_is_read_or_refused(custom: object) -> None:
    with contextlib.suppress(InputError):
        parse_release_target(custom, "t")


def test_a_channel_pointer_round_trips() -> None:
    assert channel_pointer(7) == {"v": 1, "version": 7}
    assert parse_channel_pointer(channel_pointer(7), "household/stable.json") == 7


@pytest.mark.parametrize("custom", [None, [], {}, {"version": 7}, {"v": 2, "version": 7}, {"v": 1, "version": 0}])
def test_a_wrong_channel_pointer_is_refused_by_name(custom: object) -> None:
    with pytest.raises(InputError, match="household/stable.json"):
        parse_channel_pointer(custom, "household/stable.json")


@given(JSON)
def test_any_channel_pointer_is_read_or_refused(custom: object) -> None:
    with contextlib.suppress(InputError):
        assert parse_channel_pointer(custom, "t") >= 1


# --- notifications to systemd ---------------------------------------------------------------------------------------


def test_notify_sends_one_datagram_to_the_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert sd_notify.notify("READY=1", "STATUS=watching")
        assert manager.recv(100) == b"READY=1\nSTATUS=watching"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not sd_notify.notify("WATCHDOG=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not sd_notify.notify("WATCHDOG=1")


def test_a_manager_that_does_not_read_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert [sd_notify.notify("WATCHDOG=1") for _ in range(1000)][-1] is False


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("10000000", None, 5.0), ("0", None, None), ("x", None, None), ("4000000", "1", None)],
)
def test_the_watchdog_is_fed_twice_a_period(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert sd_notify.watchdog_interval_s() == seconds
