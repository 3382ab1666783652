"""What a running agent says of itself, and that a status of an agent that does not run says so."""

import os
import socket
from pathlib import Path

import pytest

from agent import live
from agent.live import NOT_TOLD, Live, ask
from agent.status import status, table
from agent.updates.slots import is_locked, open_slots
from contract.messages import Sighting

SIGHTING = Sighting(
    device="porch", visit="a-1", track=1, label="anna", confidence=0.9, version=1, frame=5, box=(1, 2, 3, 4), crops=5,
    picture=(64, 48), first_frame=1, last_frame=9, start="2026-11-25T08:00:00Z", end="2026-11-25T08:00:01Z",
)  # fmt: skip


def test_without_an_agent_it_is_not_running(tmp_path: Path) -> None:
    assert status(tmp_path)["state"] == "not running"
    assert status(tmp_path / "none")["live"] is None
    assert table(tmp_path).splitlines()[0] == "agent       not running"


def test_a_running_agent_tells_its_frames_and_its_last_sighting(tmp_path: Path) -> None:
    with Live(tmp_path, stalled_s=5.0, paused=lambda: True) as running:
        assert ask(tmp_path)["camera"] == "starting"  # type: ignore[index]
        for _ in range(3):
            running.frame()
        running.sighted(SIGHTING)
        told = status(tmp_path)
        facts = told["live"]
        assert told["state"] == "watching"
        assert (facts["pid"], facts["frames"], facts["camera"], facts["paused"]) == (os.getpid(), 3, "watching", True)
        assert facts["fps"] > 0
        assert 0 <= facts["last_frame_s"] < 5
        assert facts["last_sighting"] == {"label": "anna", "confidence": 0.9, "time": SIGHTING.end}
        text = table(tmp_path)
        assert "last seen   anna at 2026-11-25T08:00:01Z" in text
        assert "`agent pause off` ends it" in text
    assert ask(tmp_path) is None


def test_an_accelerator_is_told_of_where_there_is_one(tmp_path: Path) -> None:
    told = {"state": "failed", "since_s": 3.0, "faults": 2, "reason": "no answer in 2 s", "next_try_s": 14.6}
    with Live(tmp_path, stalled_s=5.0, accelerator=lambda: told):
        assert status(tmp_path)["live"]["accelerator"] == told
        assert "accelerator failed since 3 s, 2 faults since the start: no answer in 2 s; the" in table(tmp_path)
        told.update(state="unused", next_try_s=None)
        assert "nothing in use was compiled for it" in table(tmp_path)
        told.update(state=7)
        assert ask(tmp_path) is NOT_TOLD
    with Live(tmp_path, stalled_s=5.0):
        assert status(tmp_path)["live"]["accelerator"] is None
        assert "accelerator" not in table(tmp_path)


def test_a_camera_that_stalls_is_said_to_stall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Live(tmp_path, stalled_s=5.0) as running:
        running.frame()
        began_s = live.time.monotonic()
        monkeypatch.setattr(live.time, "monotonic", lambda: began_s + 5.1)
        assert (running.facts()["camera"], running.facts()["fps"]) == ("stalled", 0.0)


def test_a_command_that_holds_the_folder_is_no_running_agent(tmp_path: Path) -> None:
    with open_slots(tmp_path, "household"):
        assert is_locked(tmp_path)
        assert status(tmp_path)["state"] == "locked"
        assert table(tmp_path).splitlines()[0].startswith("agent       locked: `agent install`")
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("answer", [b"", b"no json", b'{"v": 1}', b'{"v": 1, "pid": "x"}', b"{" * 20_000])
def test_an_answer_of_another_kind_is_a_running_agent_that_says_nothing(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(live._address(tmp_path))
        foreign.listen()
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(live._address(tmp_path))
            peer, _ = foreign.accept()
            with peer:
                peer.settimeout(1)
                peer.sendall(answer[:10_000])
            assert live._answer(asking) is NOT_TOLD


def test_a_second_agent_on_the_folder_goes_on_without_telling(tmp_path: Path) -> None:
    with Live(tmp_path, 5.0), Live(tmp_path, 5.0) as second:
        second.frame()
        assert ask(tmp_path)["frames"] == 0  # type: ignore[index]
