"""Sample worker that needs nothing but HTTPS: it claims tasks of a queue, works on them and reports.

It runs on Python's standard library alone, without AWS credentials: `TASKLATCH_URL`, `TASKLATCH_TOKEN_URL`,
`TASKLATCH_CLIENT_ID`, `TASKLATCH_CLIENT_SECRET` and, if it is not `default`, `TASKLATCH_QUEUE` are all that it needs.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from threading import Event, Thread
from typing import Any, Final

_LONGEST_PAUSE: Final = 20.0
_FIRST_PAUSE: Final = 0.5
_TOKEN_MARGIN_SECONDS: Final = 60
_CLIENT_ERROR, _TOO_MANY, _SERVER_ERROR = 400, 429, 500


class Service:
    """The service over HTTPS, with an access token that is kept for as long as it is good.

    Parameters
    ----------
    environment
        Addresses and credentials, by the names of the module's description.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._url = environment["TASKLATCH_URL"].rstrip("/")
        credentials = f"{environment['TASKLATCH_CLIENT_ID']}:{environment['TASKLATCH_CLIENT_SECRET']}"
        basic = base64.b64encode(credentials.encode()).decode()
        body = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "tasklatch/report"}).encode()
        headers = {"Authorization": f"Basic {basic}"}
        self._token_request = urllib.request.Request(environment["TASKLATCH_TOKEN_URL"], body, headers)  # noqa: S310
        self._token, self._good_until = "", 0.0

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request until it is answered; every request of a worker is safe to repeat.

        Raises
        ------
        urllib.error.HTTPError
            If the answer is an error that a repeat would not change.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._post(path, body)
            except urllib.error.HTTPError as error:
                if _CLIENT_ERROR <= error.code < _SERVER_ERROR and error.code != _TOO_MANY:
                    raise
            except OSError:
                pass
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        if time.monotonic() >= self._good_until:
            token = _read_json(self._token_request)
            self._token = token["access_token"]
            self._good_until = time.monotonic() + token["expires_in"] - _TOKEN_MARGIN_SECONDS
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        return _read_json(urllib.request.Request(self._url + path, json.dumps(body).encode(), headers))  # noqa: S310


def _read_json(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=40) as response:  # noqa: S310 - its user names the addresses
        return json.load(response)


def work_on(service: Service, item: Mapping[str, Any]) -> None:
    """Work on one task, with heartbeats, and report how it went."""
    path = f"/v1/executions/{item['executionId']}/tasks/{urllib.parse.quote(item['taskId'], safe='')}"
    name = {"taskExecutionId": item["taskExecutionId"]}
    done = Event()

    def beat() -> None:
        while not done.wait(item["heartbeatSeconds"] / 3):
            service.post(f"{path}/heartbeat", name)

    if "heartbeatSeconds" in item:
        Thread(target=beat, daemon=True).start()
    time.sleep(item["input"].get("seconds", 0))
    service.post(f"{path}/status", {**name, "status": "COMPLETED", "output": {"pid": os.getpid()}})
    done.set()


def main() -> None:
    """Claim and work until the process is ended; ask less often while there is nothing to do."""
    service, queue = Service(os.environ), os.environ.get("TASKLATCH_QUEUE", "default")
    pause = _FIRST_PAUSE
    while True:
        # A repeat after a lost answer carries the same id, and so gets the same task
        claim = service.post(f"/v1/queues/{queue}/claim", {"max": 1, "waitSeconds": 10, "claimId": str(uuid.uuid4())})
        for item in claim["items"]:
            print(json.dumps([item["executionId"], item["taskId"], item["attempt"]]), flush=True)
            work_on(service, item)
        if claim["items"]:
            pause = _FIRST_PAUSE
            continue
        time.sleep(pause)
        pause = min(pause * 2, float(claim["askAgainSeconds"]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
