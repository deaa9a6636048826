"""Google's service accounts without Google's libraries: a token that the account signs itself, good for an hour.

The token is a JSON Web Token (RFC 7519) with the signature RS256 (RFC 7518, section 3.3: RSASSA-PKCS1-v1_5 with
SHA-256), which Google's APIs take as it is, without an exchange (AIP-4111).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from pathlib import Path

import orjson

from stillhouse.core.errors import ModelError

_SECONDS = 3600
_EARLY = 300  # seconds before a token ends in which a new one is made
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017, section 9.2, note 1


class ServiceAccount:
    """The account of a key file. Raises `ModelError` for a file that is none; no message repeats what it holds."""

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._token = ""
        self._until = 0.0
        try:
            found = orjson.loads(file.read_bytes())
            self._email, self._key_id = str(found["client_email"]), str(found.get("private_key_id", ""))
            self.project: str | None = found.get("project_id")
            self._modulus, self._exponent = private_key(found["private_key"])
        except OSError as error:
            raise _no_account(file, str(error.strerror)) from None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise _no_account(file, f"{type(error).__name__} while it was read") from None

    def token(self) -> str:
        """A token that is good for some minutes more at least."""
        now = self._clock()
        if now >= self._until - _EARLY:
            claims = {"iss": self._email, "sub": self._email, "iat": int(now), "exp": int(now) + _SECONDS}
            head = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
            text = f"{_encoded(orjson.dumps(head))}.{_encoded(orjson.dumps({**claims, 'scope': _SCOPE}))}"
            self._token = f"{text}.{_encoded(signature(text.encode(), self._modulus, self._exponent))}"
            self._until = now + _SECONDS
        return self._token

    def __repr__(self) -> str:
        return f"<ServiceAccount {self._email}>"


def _no_account(file: Path, why: str) -> ModelError:
    return ModelError(
        f"`{file}`, which `GOOGLE_APPLICATION_CREDENTIALS` names, is no service account's key file ({why})",
        "Give a key file in JSON of a service account, or set `VERTEX_ACCESS_TOKEN` or `VERTEX_API_KEY`.",
        kind="credentials",
    )


def signature(message: bytes, modulus: int, exponent: int) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2.1)."""
    size = (modulus.bit_length() + 7) // 8
    hashed = _SHA256_PREFIX + hashlib.sha256(message).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(hashed) - 3) + b"\x00" + hashed
    return pow(int.from_bytes(padded), exponent, modulus).to_bytes(size)


def private_key(pem: str) -> tuple[int, int]:
    """(modulus, private exponent) of an RSA key in PEM: PKCS #8 (RFC 5208), or PKCS #1 itself. Raises `ValueError`."""
    lines = [line for line in pem.strip().splitlines() if line and not line.startswith("-----")]
    try:
        der = base64.b64decode("".join(lines), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    fields = _sequence(der)
    if "BEGIN PRIVATE KEY" in pem:
        fields = _sequence(fields[2])  # version, algorithm, the key itself
    return int.from_bytes(fields[1]), int.from_bytes(fields[3])


def _sequence(der: bytes) -> list[bytes]:
    """The contents of the fields of a DER sequence (X.690)."""
    tag, content, _ = _field(der, 0)
    if tag != 0x30:
        raise ValueError("no sequence")
    fields: list[bytes] = []
    place = 0
    while place < len(content):
        _, found, place = _field(content, place)
        fields.append(found)
    return fields


def _field(der: bytes, place: int) -> tuple[int, bytes, int]:
    tag, size, place = der[place], der[place + 1], place + 2
    if size & 0x80:
        width = size & 0x7F
        size, place = int.from_bytes(der[place : place + width]), place + width
    if place + size > len(der):
        raise ValueError("it ends early")
    return tag, der[place : place + size], place + size


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
