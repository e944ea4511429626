"""The interface is as its description says: requests made of it by schemathesis find no failure of the server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

import inward
from tests.serving import TOKEN, Client, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    out = tmp_path_factory.mktemp("serve")
    with serving([inward.load("inward/robust")], out, waiting=4, upload_bytes=2**20) as client:
        yield client


_SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_no_request_breaks_the_server(client: Client) -> None:
    cookie = {"Cookie": f'inward-{client.port}="{TOKEN}"'}
    described = schemathesis.openapi.from_url(f"http://127.0.0.1:{client.port}/api/openapi.json", headers=cookie)
    # Streams of events end only with their jobs; test_server reads them.
    operations = [found.ok() for found in described.exclude(path_regex="events$").get_all_operations()]
    text = client.ask("GET", "/api/openapi.json").body.decode()
    known = client.get("openapi.json")["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) == {"Asked", "Error"} <= set(known)
    asked = {f"{operation.method.upper()} {operation.path}": 0 for operation in operations}
    seen: Counter[int] = Counter()
    for operation in operations:

        @_SETTINGS
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            answer = case.call(headers=cookie, timeout=60)
            asked[f"{case.method.upper()} {case.path}"] += 1
            seen[answer.status_code] += 1
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                told = answer.json()
                assert isinstance(told["error"], str)
                assert set(told) <= {"error", "option"}
                assert "Traceback" not in told["error"]

        ask()
    assert len(asked) >= 16
    assert min(asked.values()) >= 1
    # Not only refusals.
    assert seen[200] >= 5
    assert seen[422] > 20
