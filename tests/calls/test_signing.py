"""Signatures against what others published: AWS's own test suite and documentation, and OpenSSL for Google's."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.providers.bedrock import BedrockConverse
from stillhouse.calls.providers.gemini import Vertex
from stillhouse.calls.providers.place import Place
from stillhouse.calls.providers.service_account import ServiceAccount, private_key, signature
from stillhouse.calls.providers.sigv4 import AwsKey, signed_headers
from stillhouse.calls.request import RequestForm, Sampling
from stillhouse.core.errors import ModelError
from tests.calls.helpers import with_service
from tests.calls.server import MisbehavingServer

# The key and the moment of AWS's test suite and documentation; neither is anybody's.
AWS = AwsKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
MOMENT = datetime(2015, 8, 30, 12, 36, 0, tzinfo=UTC)
HOST = "https://example.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "service", "expected"),
    [
        ("GET", f"{HOST}/", {}, b"", "service", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", f"{HOST}/", {}, b"", "service", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            f"{HOST}/?Param2=value2&Param1=value1",
            {},
            b"",
            "service",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "POST",
            f"{HOST}/",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "service",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "GET",
            "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
            b"",
            "iam",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ],
    ids=["get-vanilla", "post-vanilla", "get-vanilla-query-order", "post-x-www-form-urlencoded", "iam ListUsers"],
)
def test_signatures_are_those_that_aws_publishes(
    method: str, url: str, headers: dict[str, str], body: bytes, service: str, expected: str
) -> None:
    signed = signed_headers(
        method, url, headers, body, key=AWS, region="us-east-1", service=service, now=MOMENT
    )  # fmt: skip

    assert signed["Authorization"].rpartition("Signature=")[2] == expected


def test_a_session_token_is_signed_with_the_rest() -> None:
    """`post-sts-header-before` of AWS's suite."""
    token = (
        "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwt"
        "hAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVX"
        "AkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
    )
    key = AWS._replace(session_token=token)

    signed = signed_headers("POST", f"{HOST}/", {}, b"", key=key, region="us-east-1", service="service", now=MOMENT)

    assert signed["Authorization"].endswith(
        "SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
    )


def test_a_bedrock_request_goes_out_as_it_was_signed(tmp_path: Path) -> None:
    secrets = {"AWS_ACCESS_KEY_ID": AWS.access_key, "AWS_SECRET_ACCESS_KEY": AWS.secret_key, "AWS_REGION": "eu-west-1"}
    model = "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-v1:0"
    with MisbehavingServer() as server:
        ask = Ask(model=f"bedrock/{model}", endpoint=server.url)
        answer = with_service(tmp_path, lambda service: service.ask(ask, "hello"), credentials=Credentials(secrets))

    (call,) = server.calls
    assert isinstance(answer, Answer)
    assert call.heard.model == model
    assert call.path == f"/v1/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse"
    moment = datetime.strptime(call.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    again = signed_headers(
        "POST",
        server.url.removesuffix("/v1") + call.path,
        {"Content-Type": call.headers["Content-Type"]},
        json.dumps(call.body, separators=(",", ":")).encode(),
        key=AWS,
        region="eu-west-1",
        service="bedrock",
        now=moment,
    )
    assert call.headers["Authorization"] == again["Authorization"]
    assert "Credential=AKIDEXAMPLE/" in again["Authorization"]


def bedrock_url(secrets: dict[str, str]) -> str:
    endpoint = Endpoint("https://bedrock-runtime.amazonaws.com", api="bedrock")
    place = Place("bedrock/x", endpoint, Credentials({"AWS_BEARER_TOKEN_BEDROCK": "k", **secrets}))
    return BedrockConverse(place).url(REQUEST)


REQUEST = RequestForm({"model": "m"}, "amazon.nova-lite-v1:0", Sampling(), None, None).request("hello")


def test_the_region_stands_in_the_url() -> None:
    path = "/model/amazon.nova-lite-v1%3A0/converse"

    assert bedrock_url({}) == f"https://bedrock-runtime.us-east-1.amazonaws.com{path}"
    assert bedrock_url({"AWS_REGION": "eu-west-3"}) == f"https://bedrock-runtime.eu-west-3.amazonaws.com{path}"


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service account with a key that OpenSSL made just now."""
    folder = tmp_path_factory.mktemp("account")
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    account = {
        "type": "service_account",
        "project_id": "barley",
        "private_key_id": "k1",
        "private_key": (folder / "key.pem").read_text(),
        "client_email": "still@barley.iam.gserviceaccount.com",
    }
    (folder / "account.json").write_text(json.dumps(account))
    return folder / "account.json"


@needs_openssl
@pytest.mark.parametrize("form", ["PKCS #8", "PKCS #1"])
def test_rsa_signatures_are_openssls(key_file: Path, form: str) -> None:
    pem = key_file.with_name("key.pem")
    if form == "PKCS #1":
        old = subprocess.run(["openssl", "rsa", "-in", pem, "-traditional"], check=True, capture_output=True).stdout
        pem = key_file.with_name("old.pem")
        pem.write_bytes(old)
    message = b"to be signed"
    theirs = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", pem], input=message, check=True, capture_output=True
    ).stdout

    assert signature(message, *private_key(pem.read_text())) == theirs


@needs_openssl
def test_a_service_account_signs_a_token_of_its_own_and_renews_it(key_file: Path) -> None:
    now = [1_000_000.0]
    account = ServiceAccount(key_file, lambda: now[0])

    first = account.token()
    now[0] += 3000
    assert account.token() == first
    now[0] += 400
    assert account.token() != first

    head, claims = (json.loads(decoded(part)) for part in first.split(".")[:2])
    assert head == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert (claims["iss"], claims["exp"] - claims["iat"]) == ("still@barley.iam.gserviceaccount.com", 3600)
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"


def vertex(**secrets: str) -> Vertex:
    endpoint = Endpoint("https://aiplatform.googleapis.com/v1", api="vertex")
    return Vertex(Place("vertex/x", endpoint, Credentials(secrets)))


@needs_openssl
def test_vertex_takes_the_project_of_the_account_and_the_place_of_the_session(key_file: Path) -> None:
    reached = vertex(GOOGLE_APPLICATION_CREDENTIALS=str(key_file), GOOGLE_CLOUD_LOCATION="europe-west4")

    assert reached.url(REQUEST) == (
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/barley/locations/europe-west4/publishers/google/"
        "models/amazon.nova-lite-v1%3A0:generateContent"
    )
    assert reached.headers(REQUEST, b"")["Authorization"].startswith("Bearer ey")


def test_vertex_in_express_mode_needs_a_key_alone() -> None:
    reached = vertex(VERTEX_API_KEY="k")

    assert "/v1/publishers/google/models/" in reached.url(REQUEST)
    assert reached.headers(REQUEST, b"")["x-goog-api-key"] == "k"


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ({}, "`VERTEX_ACCESS_TOKEN`"),
        ({"VERTEX_ACCESS_TOKEN": "t"}, "`GOOGLE_CLOUD_PROJECT` is not set"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/no/such.json"}, "No such file"),
    ],
)
def test_what_vertex_misses_is_said(secrets: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        vertex(**secrets)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"client_email": "a", "private_key": "-----BEGIN PRIVATE KEY-----\\nAAAA"}']
)
def test_a_file_that_is_no_account_is_said_without_what_it_holds(tmp_path: Path, content: str) -> None:
    (tmp_path / "account.json").write_text(content)

    with pytest.raises(ModelError, match="is no service account's key file") as caught:
        vertex(GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "account.json"))
    assert "AAAA" not in str(caught.value)


def decoded(part: str) -> Any:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
