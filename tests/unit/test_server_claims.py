"""Jobs as rows: one worker each, taken up again when its worker goes silent, and no word from who lost it."""

import datetime as dt
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from cloud_tools.publish_server.models import Job
    from tests.publish_servers import ServerFolder

LEASE = dt.timedelta(seconds=30)
OVER = dt.timedelta(seconds=-1)  # a lease that has run out when it begins


def ask(key: str = "a") -> "Job":
    from cloud_tools.publish_server.jobs import claims
    from cloud_tools.publish_server.models.job import Kind

    return claims.ask(Kind.PUBLISH, key, {"n": 1})


def test_a_job_is_claimed_once_and_the_oldest_first(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs.claims import claim

    first, second = ask("a"), ask("b")
    assert [claim(f"worker {n}", LEASE) for n in range(3)] == [first, second, None]


def test_the_same_work_is_one_row_however_often_it_is_asked_for(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import Job

    assert ask().pk == ask().pk
    assert Job.objects.count() == 1


def test_a_failed_job_that_is_asked_for_again_waits_anew(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs import claims

    ask()
    job = claims.claim("w", LEASE)
    assert job is not None
    assert claims.fail(job, "no room")
    again = ask()
    assert (again.pk, again.state, again.error, again.attempts) == (job.pk, "queued", "", 0)


def test_a_silent_worker_loses_its_job_and_can_write_nothing_more(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs import claims
    from cloud_tools.publish_server.models import Job

    ask()
    lost = claims.claim("first", OVER)
    taken = claims.claim("second", LEASE)
    assert lost is not None
    assert taken is not None
    assert (lost.pk, lost.attempts, taken.attempts) == (taken.pk, 1, 2)
    assert not claims.beat(lost, LEASE)
    assert not claims.finish(lost, {"from": "first"})
    assert not claims.fail(lost, "from first")
    assert claims.finish(taken, {"from": "second"})
    assert Job.objects.get().result == {"from": "second"}


def test_a_heartbeat_keeps_a_job(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs import claims

    ask()
    job = claims.claim("first", OVER)
    assert job is not None
    assert claims.beat(job, LEASE)
    assert claims.claim("second", LEASE) is None


def test_a_job_that_ends_every_worker_is_given_up_with_its_reason(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs import claims
    from cloud_tools.publish_server.models import Job

    ask()
    assert all(claims.claim("w", OVER) for _ in range(claims.MOST_ATTEMPTS))
    assert claims.claim("w", OVER) is None
    job = Job.objects.get()
    assert (job.state, job.error) == ("failed", "given up: 5 workers ended in the middle of it")


@given(
    moves=st.lists(st.tuples(st.sampled_from(["ask", "claim", "lose", "beat", "finish", "fail"]), st.integers(0, 2)))
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_workers_do_only_the_last_who_claimed_a_job_ends_it(
    server: "ServerFolder", moves: list[tuple[str, int]]
) -> None:
    from cloud_tools.publish_server.jobs import claims
    from cloud_tools.publish_server.models import Job

    Job.objects.all().delete()
    held: dict[int, Job] = {}
    owner = None
    for move, worker in moves:
        if move == "ask":
            ask()
        elif move in ("claim", "lose"):
            if job := claims.claim(f"w{worker}", LEASE if move == "claim" else OVER):
                held[worker], owner = job, worker
        elif worker in held:
            write = {"beat": lambda job: claims.beat(job, OVER), "fail": lambda job: claims.fail(job, "x")}
            if write.get(move, lambda job: claims.finish(job, {}))(held[worker]):
                assert worker == owner
                owner = owner if move == "beat" else None
    assert Job.objects.count() <= 1


def test_who_lost_a_job_writes_nothing_when_it_was_asked_for_again(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs import claims

    ask()
    stale, second = claims.claim("first", OVER), claims.claim("second", LEASE)
    assert stale
    assert second
    claims.fail(second, "no room")
    ask()
    third = claims.claim("third", LEASE)
    assert third
    assert third.attempts == stale.attempts
    assert not claims.finish(stale, {})


CLAIMER = """
import datetime as dt, json, os, sys
import django
django.setup()
from cloud_tools.publish_server.jobs import claims
sys.stdin.readline()
mine = []
while (job := claims.claim(str(os.getpid()), dt.timedelta(minutes=5))) is not None:
    mine.append(job.pk)
    claims.finish(job, {})
print(json.dumps(mine))
"""


@pytest.mark.slow
def test_two_processes_that_race_for_jobs_never_get_the_same_one(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.models import Job
    from tests.publish_servers import process_environment

    jobs = [ask(f"job {n}").pk for n in range(40)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER],
            env=process_environment(server.config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    claimed = [pk for racer in racers for pk in json.loads(racer.communicate(timeout=60)[0])]
    assert sorted(claimed) == jobs
    assert set(Job.objects.values_list("state", "attempts")) == {("done", 1)}


def test_a_worker_ends_a_job_with_its_reason_and_goes_on(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs.worker import Worker
    from cloud_tools.publish_server.models import Job
    from contract.errors import InputError

    def refuse(job: Job, say: object) -> dict[str, object]:
        raise InputError("versions only grow")

    def break_down(job: Job, say: object) -> dict[str, object]:
        raise ZeroDivisionError("1/0")

    ask("a")
    assert Worker({"publish": refuse}, LEASE).run_once()
    assert Job.objects.get(key="a").error == "versions only grow"
    ask("b")
    assert Worker({"publish": break_down}, LEASE).run_once()
    assert Job.objects.get(key="b").error == "a fault of this program: ZeroDivisionError: 1/0"
    assert not Worker({}, LEASE).run_once()


def test_a_job_that_takes_longer_than_its_lease_is_kept_by_its_worker(server: "ServerFolder") -> None:
    from cloud_tools.publish_server.jobs import claims
    from cloud_tools.publish_server.jobs.worker import Worker
    from cloud_tools.publish_server.models import Job

    beaten = threading.Event()
    real = claims.beat

    def work(job: Job, say: object) -> dict[str, object]:
        assert beaten.wait(10)
        return {"attempts": Job.objects.get().attempts}

    def beat(job: Job, lease: dt.timedelta) -> bool:
        is_ours = real(job, lease)
        beaten.set()
        return is_ours

    ask()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "beat", beat)
        Worker({"publish": work}, dt.timedelta(milliseconds=60)).run_once()
    assert Job.objects.get().result == {"attempts": 1}
