"""The API of jobs: what is being done, told to whoever may read."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.publish_servers import ServerFolder


def test_a_job_is_told_with_its_state_and_steps(server: "ServerFolder") -> None:
    api = server.api()
    job = api.publish(server.bundle(1))[1]
    assert api.get(f"/jobs/{job['id']}")[1] == job
    assert (job["state"], job["steps"], job["attempts"], job["seconds"]) == ("queued", [], 0, None)
    server.worker().run_once()
    done = api.get(f"/jobs/{job['id']}")[1]
    assert [step["text"] for step in done["steps"]] == ["published"]
    assert done["seconds"] >= 0
    assert done["id"] in [listed["id"] for listed in api.get("/jobs")[1]]


def test_a_job_that_is_not_there_is_404_in_json(server: "ServerFolder") -> None:
    status, answer = server.api().get("/jobs/77")
    assert (status, answer["error"]) == (404, "missing")


def test_jobs_are_told_to_nobody_without_a_token(server: "ServerFolder") -> None:
    from tests.publish_servers import Api

    assert Api("").get("/jobs")[0] == 401
    assert server.api("publish").get("/jobs")[0] == 403


def test_the_description_of_the_api_names_every_address(server: "ServerFolder") -> None:
    from tests.publish_servers import Api

    status, description = Api("").get("/openapi.json")
    assert status == 200
    assert {"/api/uploads/{upload_id}", "/api/releases", "/api/jobs/{job_id}", "/api/health"} <= set(
        description["paths"]
    )


def test_health_needs_no_token(server: "ServerFolder") -> None:
    from tests.publish_servers import Api

    assert Api("").get("/health") == (200, {"ok": True})
