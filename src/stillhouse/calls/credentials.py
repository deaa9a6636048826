"""Keys of providers: read once, never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stillhouse.core.errors import ModelError, RecipeError


class Credentials:
    """Named secrets. They are in no repr, record, log, cache or message."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._secrets = dict(secrets or {})

    @classmethod
    def from_environment(cls, env_file: str | Path = ".env") -> Credentials:
        """Variables of the environment, then those of `env_file` (lines `NAME=value`) that it lacks."""
        found = _read_env_file(Path(env_file))
        found.update(os.environ)
        return cls(found)

    def get(self, name: str) -> str | None:
        """The secret called `name`, or None where it is missing or empty."""
        return self._secrets.get(name, "").strip() or None

    def require(self, name: str, for_whom: str) -> str:
        """The secret called `name`; raises `ModelError` naming the variable to set."""
        secret = self.get(name)
        if secret is None:
            raise ModelError(
                f"`{for_whom}` needs an API key, and `{name}` is not set",
                f"Set it with `export {name}=…` or put a line `{name}=…` into `.env`.",
                kind="credentials",
            )
        if not secret.isprintable():
            raise ModelError(
                f"the key in `{name}` holds a line break or another character that no header can",
                f"Set `{name}` to the key alone.",
                kind="credentials",
            )
        return secret

    def __repr__(self) -> str:
        return f"<Credentials: {len(self._secrets)} names>"

    def __reduce__(self) -> str:
        raise TypeError("credentials do not travel; read them where they are needed")


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        return {}
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"`{path}` is not UTF-8 (byte {error.start:,})", "Save it as UTF-8, or take it away."
        ) from None
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else value.partition(" #")[0].strip()
    return found
