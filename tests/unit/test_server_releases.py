"""Publishing, listing and withdrawing by the API: the rules and the reasons are those of the command line."""

import json
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.trust import TrustedSite
from tests.bundles import write_bundle

if TYPE_CHECKING:
    from tests.publish_servers import ServerFolder


def publish(server: "ServerFolder", version: int, **choices: object) -> dict[str, object]:
    """Publish a tiny bundle to its end; return the job."""
    api = server.api()
    status, job = api.publish(server.bundle(version), **choices)
    assert status == 202, job
    while server.worker().run_once():
        pass
    done: dict[str, object] = api.get(f"/jobs/{job['id']}")[1]
    return done


@pytest.mark.slow
def test_a_published_release_verifies_and_is_listed_with_its_patch(server: "ServerFolder") -> None:
    from cloud_tools.publishing.site_server import SiteServer
    from tests.sites import missing_contents

    assert publish(server, 1)["state"] == "done"
    job = publish(server, 2)
    assert (job["state"], job["attempts"], job["error"]) == ("done", 1, "")
    (newest, first) = server.api().get("/releases?model=household")[1]
    assert (newest["version"], newest["channels"], first["channels"]) == (2, ["stable"], [])
    (patch,) = newest["release"]["patches"]
    assert 0 < patch["size"] < 2000
    assert server.api().get("/releases/household/2")[1] == newest
    with SiteServer(server.config.site, "127.0.0.1", 0) as site:
        import threading

        threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
        view = TrustedSite(site.url, server.config.keys / "root.json", server.data / "device").refresh()
        assert view.newest("household", "stable") == 2
        assert missing_contents(server.config.site, view.release("household", 2)) == []
        site.shutdown()


def test_the_same_bundle_again_is_the_same_job_and_publishes_nothing(server: "ServerFolder") -> None:
    first = publish(server, 1)
    files = sorted(server.config.site.rglob("*"))
    again = publish(server, 1)
    assert again["id"] == first["id"]
    assert again["result"]["outcome"] == "nothing"  # type: ignore[index]
    assert sorted(server.config.site.rglob("*")) == files


def test_a_version_that_does_not_grow_fails_with_its_reason(server: "ServerFolder") -> None:
    publish(server, 2)
    job = publish(server, 1)
    assert (job["state"], job["error"]) == (
        "failed",
        "release 1 of household is not newer than 2: versions only grow",
    )


def test_what_is_kept_of_a_bundle_is_gone_once_it_is_out(server: "ServerFolder") -> None:
    publish(server, 1)
    assert list(server.config.uploads.iterdir()) == []
    assert list((server.data / "work").iterdir()) == []


def test_a_bundle_whose_files_were_not_sent_is_refused_at_once(server: "ServerFolder") -> None:
    manifest = (server.bundle(1) / "release.json").read_text()
    status, answer = server.api().post("/releases", {"manifest": manifest})
    assert (status, answer["error"]) == (422, "input")
    assert answer["detail"] == "backbone.tflite is not here: send its 60000 bytes first"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b", ".hidden", "a\x00b", "release.json"])
def test_a_manifest_cannot_name_a_file_elsewhere(server: "ServerFolder", name: str) -> None:
    manifest = json.loads((server.bundle(1) / "release.json").read_text())
    manifest["stages"][0]["file"] = name
    status, answer = server.api().post("/releases", {"manifest": json.dumps(manifest)})
    assert (status, answer["error"]) == (422, "input")


def test_a_self_test_that_is_a_bomb_is_refused_before_anything_reads_it(server: "ServerFolder") -> None:
    bundle = server.bundle(1)
    bomb = bundle / "selftest.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("inputs.npy", "w") as part:
        for _ in range(65):
            part.write(bytes(1 << 20))
    assert bomb.stat().st_size < 100_000
    assert "unpacks to over" in _refusal(server, bomb.read_bytes())


@pytest.mark.parametrize("data", [b"no zip", b"PK\x03\x04" + bytes(50)])
def test_a_self_test_that_is_no_npz_is_refused(server: "ServerFolder", data: bytes) -> None:
    assert _refusal(server, data) == "selftest.npz: no npz file"


def _refusal(server: "ServerFolder", selftest: bytes) -> str:
    import hashlib

    bundle = server.bundle(1)
    (bundle / "selftest.npz").write_bytes(selftest)
    manifest = json.loads((bundle / "release.json").read_text())
    manifest["selftest"] |= {"sha256": hashlib.sha256(selftest).hexdigest(), "size": len(selftest)}
    (bundle / "release.json").write_text(json.dumps(manifest))
    status, answer = server.api().publish(bundle)
    assert status == 422
    detail: str = answer["detail"]
    return detail


@given(text=st.text(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_manifest_is_sent_is_refused_in_one_line(server: "ServerFolder", text: str) -> None:
    status, answer = server.api().post("/releases", {"manifest": text})
    assert status == 422
    assert "\n" not in answer["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("rollout_percent", 101), ("channel", "../x"), ("jitter_s", -1), ("patches_from", 99), ("margin_points", "nan")],
)
def test_a_choice_that_cannot_be_is_refused_and_named(server: "ServerFolder", field: str, value: object) -> None:
    status, answer = server.api().publish(server.bundle(1), **{field: value})
    assert (status, answer["error"]) == (422, "input")
    assert field in answer["detail"]


def test_a_release_that_is_worse_for_somebody_is_refused_unless_that_is_accepted(server: "ServerFolder") -> None:
    for version, accuracy in ((1, 0.95), (2, 0.80)):
        bundle = server.bundle(version)
        manifest = json.loads((bundle / "release.json").read_text())
        manifest["metrics"] = {"per_person": {"ann": {"accuracy": accuracy, "crops": 40, "held_out": "same"}}}
        (bundle / "release.json").write_text(json.dumps(manifest))
        api = server.api()
        job = api.publish(bundle)[1]
        while server.worker().run_once():
            pass
    failed = api.get(f"/jobs/{job['id']}")[1]
    assert failed["state"] == "failed"
    assert "ann 95.0 % to 80.0 %" in failed["error"]
    assert api.publish(bundle, accept_regression=True)[1]["id"] == job["id"]
    server.worker().run_once()
    assert api.get(f"/jobs/{job['id']}")[1]["state"] == "done"


def test_a_withdrawn_release_is_signed_as_such_and_audited(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import AuditEntry

    publish(server, 1)
    assert server.api("publish", "read").post("/releases/household/1/withdraw")[0] == 403
    assert server.api().post("/releases/household/9/withdraw")[0] == 404
    status, job = server.api().post("/releases/household/1/withdraw")
    server.worker().run_once()
    assert (status, server.api().get(f"/jobs/{job['id']}")[1]["state"]) == (202, "done")
    assert server.api().get("/releases/household/1")[1]["withdrawn"]
    events = set(AuditEntry.objects.values_list("event", "actor"))
    assert {("release.published", "admin"), ("release.withdrawn", "admin"), ("withdraw.asked", "admin")} <= events


@pytest.mark.slow
def test_a_server_whose_site_was_restored_from_an_older_copy_gives_no_version_twice(server: "ServerFolder") -> None:
    import shutil

    publish(server, 1)
    saved = shutil.copytree(server.config.site, server.data / "saved")
    publish(server, 2)
    shutil.rmtree(server.config.site)
    saved.rename(server.config.site)
    other = server.bundle(2, seed=99)
    job = server.api().publish(other)[1]
    server.worker().run_once()
    assert "not newer than 2" in server.api().get(f"/jobs/{job['id']}")[1]["error"]
    assert publish(server, 2)["result"]["outcome"] == "new"  # type: ignore[index]


def test_a_kill_between_signing_and_recording_ends_in_one_release_and_one_entry(
    server: "ServerFolder", monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_tools.publish_server.jobs import handlers
    from cloud_tools.publish_server.models import AuditEntry, Job, Release

    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> None:
        raise Killed

    api = server.api()
    api.publish(server.bundle(1))
    with monkeypatch.context() as patch:
        patch.setattr(handlers, "record_releases", kill)
        with pytest.raises(Killed):
            server.worker().run_once()
    assert Job.objects.get(kind="publish").state == "running"
    Job.objects.update(lease_until="2026-01-01T00:00:00Z")
    assert server.worker().run_once()
    job = Job.objects.get(kind="publish")
    assert (job.state, job.attempts, job.result["outcome"]) == ("done", 2, "nothing")
    assert Release.objects.count() == 1
    assert AuditEntry.objects.filter(event="release.published").count() == 1


def test_another_model_is_refused_with_what_the_site_has(server: "ServerFolder") -> None:
    place = server.data.parent / "garden"
    write_bundle(place, 1, ("fox",), seed=1, model="garden")
    job = server.api().publish(place)[1]
    server.worker().run_once()
    assert "has no model 'garden' (it has household)" in server.api().get(f"/jobs/{job['id']}")[1]["error"]
