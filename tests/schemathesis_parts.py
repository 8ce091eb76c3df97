"""What schemathesis cannot know by itself: things that exist, what lines of JSON are, and which 503 is an answer.

Called as a program by `tests/schemathesis`, it fills a node and writes a configuration whose dictionaries hold the
ids of what it made; imported by schemathesis, it registers its hooks.
"""

import json
import sys
import time
import urllib.request

KEY = "dev-admin-token"


def ask(base, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(base + path, data, headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return json.load(answer)


def seed(base, config):
    def submit(count, **job):
        made = ask(base, "POST", "/api/v1/jobs/batch", {"jobs": [{"type": "noop", **job}] * count})
        return [one["job"]["id"] for one in made]

    jobs = submit(15, delaySeconds=3_600, queue="later")
    jobs += submit(5, dependencies=jobs[:1], tags=["blocked"])
    jobs += submit(2, payload={"durationMs": 3_600_000}, timeoutSeconds=7_200, queue="slow")
    jobs += submit(15, queue="done", payload={"durationMs": 1})
    failed = submit(30, queue="done", maxAttempts=1, payload={"forceError": "on purpose"})
    jobs += failed + submit(10, type="nobody.knows", queue="waits")
    deadline = time.monotonic() + 30
    while len(ask(base, "GET", "/api/v1/dlq?limit=1000")) < len(failed):
        if time.monotonic() > deadline:
            raise SystemExit("the jobs that fail did not fail")
        time.sleep(0.05)
    operations = [
        ask(base, "POST", "/api/v1/jobs/bulk", {"action": "cancel", "filter": {"queue": q}, "async": True})["operationId"]
        for q in ("none", "done")
    ]
    workers = [worker["workerId"] for worker in ask(base, "GET", "/api/v1/workers")]
    actors = [child["path"] for child in ask(base, "GET", "/api/v1/supervision?depth=1")["children"]]
    # Four in five named after something that exists: else nearly every answer would be 404.
    dictionaries = {
        "jobs": jobs, "failed": failed, "operations": operations, "workers": workers, "actors": actors,
        "queues": ["later", "slow", "done", "waits", "default"],
    }
    bindings = [
        ("^/api/v1/jobs/[{]id[}]", "path.id", "jobs", 0.8),
        ("^/api/v1/dlq/", "body.jobIds[*]", "failed", 0.8),
        ("^/api/v1/jobs/bulk$", "body.jobIds[*]", "jobs", 0.8),
        ("^/api/v1/operations/", "path.id", "operations", 0.8),
        ("^/api/v1/workers/", "path.id", "workers", 0.8),
        ("^/api/v1/queues/", "path.queue", "queues", 0.8),
        ("^/api/v1/supervision$", "query.path", "actors", 0.5),
    ]
    with open(config, "w") as file:
        file.write("[cache]\nenabled = false\n")
        for name, values in dictionaries.items():
            file.write(f"[dictionaries.{name}]\nvalues = {json.dumps(values)}\n")
        for path, parameter, name, probability in bindings:
            binding = f'{{dictionary = "{name}", probability = {probability}}}'
            file.write(f"[[operations]]\ninclude-path-regex = '{path}'\nparameters = {{'{parameter}' = {binding}}}\n")


if __name__ == "__main__":
    seed(sys.argv[1], sys.argv[2])
    raise SystemExit(0)

import schemathesis  # noqa: E402  (only in schemathesis's own environment)


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    text = value if isinstance(value, str) else json.dumps(value)
    # As generated, a body would hardly ever have a line that is a job.
    good = json.dumps({"type": "noop", "queue": "lines", "metadata": {"text": text}})
    return {"data": f"{good}\n{text}\n{good}\n".encode("utf-8", "surrogatepass")}


@schemathesis.deserializer("application/x-ndjson")
def first_line(_context, response):
    return json.loads(response.content.split(b"\n")[0])


@schemathesis.hook
def map_headers(_context, headers):
    """A second key would be made up, and whoever gives two must give two good ones: nearly all would be 401."""
    return {name: value for name, value in (headers or {}).items() if name.lower() != "x-admin-token"}


@schemathesis.hook
def filter_failure(_context, failure, _case, response):
    """A submission to a queue that drains is answered 503, says the contract; no other 503 may be seen."""
    return not (response.status_code == 503 and b'"code":"queue_draining"' in response.content)
