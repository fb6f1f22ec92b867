"""The RunPod control plane of the tests itself: what it refuses, and what its clock does."""

import pytest

aiohttp = pytest.importorskip("aiohttp")

from tests.fakes.runpod_platform import API_KEY, RunPodPlatform, ShiftedClock  # noqa: E402


async def test_the_platform_refuses_what_runpod_refuses():
    async with RunPodPlatform(hold_s=0.1).running() as platform, aiohttp.ClientSession() as http:
        key = {"Authorization": f"Bearer {API_KEY}"}
        run = f"{platform.api}/run"

        async def submit(body, headers=key):
            async with http.post(run, json=body, headers=headers) as answer:
                return answer.status

        assert await submit({"input": {}}, {}) == 401
        assert await submit({"no": "input"}) == 400
        for policy in (
            {"executionTimeout": 4_999},
            {"executionTimeout": 7 * 24 * 3600_000 + 1},
            {"executionTimeout": 60_000.5},
            {"ttl": 9_999},
        ):
            assert await submit({"input": {}, "policy": policy}) == 400, policy
        assert await submit({"input": "x" * 11 * 2**20}) == 413
        platform.refuse.append(429)
        assert await submit({"input": {}}) == 429
        for method, path, headers, status in [
            ("GET", "status/job-1", key, 404),
            ("GET", "status/job-1", {}, 401),
            ("POST", "cancel/job-1", key, 404),
            ("GET", "../another/health", key, 404),
        ]:
            url = f"{platform.api}/{path}"
            async with http.request(method, url, headers=headers) as answer:
                assert answer.status == status, (method, path)
        assert await submit({"input": {}}) == 200

        worker = {"Authorization": API_KEY}
        take = platform.environ("pod1")["RUNPOD_WEBHOOK_GET_JOB"] + "&job_in_progress=0"
        done = platform.environ("pod1")["RUNPOD_WEBHOOK_POST_OUTPUT"] + "&isStream=false"
        done = done.replace("$RUNPOD_POD_ID", "pod1").replace("$ID", "job-1")
        form = worker | {"Content-Type": "application/x-www-form-urlencoded"}
        for url, headers, status in [
            (take, worker, 400),  # $ID was not filled in
            (take.replace("$ID", "pod1"), {}, 401),
            (take.replace("$ID", "pod1"), worker, 200),
            (take.replace("$ID", "pod1"), worker, 204),
        ]:
            async with http.get(url, headers=headers) as answer:
                assert answer.status == status
        for url, headers, body, status in [
            (done, worker, "{}", 415),
            (done, form, "{}", 400),  # no X-Request-ID
            (done, form | {"X-Request-ID": "job-1"}, "not JSON", 400),
            (done.replace("pod1", "pod2"), form | {"X-Request-ID": "job-1"}, "{}", 400),
            (done.replace("job-1", "job-9"), form | {"X-Request-ID": "job-9"}, "{}", 404),
            (done, form | {"X-Request-ID": "job-1"}, '{"output": 1}', 200),
        ]:
            async with http.post(url, headers=headers, data=body) as answer:
                assert answer.status == status, (url, body)
        assert platform.jobs["job-1"].status == "COMPLETED"


async def test_jobs_and_results_vanish_when_their_time_is_over():
    clock = ShiftedClock()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    platform = RunPodPlatform(hold_s=0.1, now=clock)
    async with platform.running(), aiohttp.ClientSession(headers=headers) as http:

        async def call(method, path, **body):
            async with http.request(method, f"{platform.api}/{path}", **body) as answer:
                return answer.status, await answer.json() if answer.status == 200 else None

        _, waiting = await call("POST", "run", json={"input": {}, "policy": {"ttl": 20_000}})
        _, ended = await call("POST", "run", json={"input": {}})
        _, synchronous = await call("POST", "runsync", json={"input": {}})
        assert synchronous["status"] == "IN_QUEUE"
        assert (await call("GET", "health"))[1]["jobs"]["inQueue"] == 3
        for _ in range(2):  # the second one finds it over
            assert (await call("POST", f"cancel/{ended['id']}"))[1]["status"] == "CANCELLED"
        assert (await call("GET", f"stream/{ended['id']}"))[1]["stream"] == []
        clock.added = 21
        assert (await call("GET", f"status/{waiting['id']}"))[0] == 404
        assert (await call("GET", f"status/{ended['id']}"))[0] == 200
        clock.added = 31 * 60
        assert (await call("GET", f"status/{ended['id']}"))[0] == 404
