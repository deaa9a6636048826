"""A hub of one's own on this machine: the endpoints that huggingface_hub asks, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pytest

Kind = Literal["models", "datasets"]


@dataclass
class Repository:
    """Commits by name (`main`, a tag, …), and the files of each commit."""

    revisions: dict[str, str] = field(default_factory=dict)
    files: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    gated: bool = False


class HubServer:
    """`push` files, then point huggingface_hub to it with `used_by`; `asked` lists the requests."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[Kind, str], Repository] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                outer.answer(self, with_body=False)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def push(self, kind: Kind, name: str, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Make a commit of exactly these files, to which `revision` then points; returns the commit."""
        repository = self.repositories.setdefault((kind, name), Repository())
        state = hashlib.sha1(json.dumps(sorted((path, data.hex()) for path, data in files.items())).encode())
        repository.files[state.hexdigest()] = dict(files)
        repository.revisions[revision] = state.hexdigest()
        return state.hexdigest()

    def used_by(self, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
        """Make huggingface_hub of this process ask here, with an empty cache, and no name asked before."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("stillhouse.core.hub._commits", {})

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = unquote(urlsplit(request.path).path).strip("/")
        self.asked.append(path)
        status, headers, body = self._found(path)
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if with_body:
            request.wfile.write(body)

    def _found(self, path: str) -> tuple[int, dict[str, str], bytes]:
        kind: Kind = "datasets" if path.removeprefix("api/").startswith("datasets/") else "models"
        parts = path.removeprefix("api/").removeprefix(f"{kind}/").split("/")
        repository = self.repositories.get((kind, "/".join(parts[:2])))
        if repository is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        what, rest = (parts[2], parts[3:]) if len(parts) > 2 else ("revision", ["main"])
        commit, rest = _commit(repository, rest)
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if repository.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        files = repository.files[commit]
        if what == "revision":
            siblings = [{"rfilename": name} for name in files]
            told: Any = {"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings}
            return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
        if what == "tree":
            told = [{"type": "file", "path": n, "size": len(d), "oid": _etag(d)} for n, d in files.items()]
            return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
        data = files.get("/".join(rest))
        if data is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        return 200, {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": commit}, data

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _commit(repository: Repository, rest: list[str]) -> tuple[str | None, list[str]]:
    """The commit that the beginning of a path names, and what comes after it; a revision may hold slashes."""
    for end in range(1, len(rest) + 1):
        name = "/".join(rest[:end])
        commit = repository.revisions.get(name) or (name if name in repository.files else None)
        if commit is not None:
            return commit, rest[end:]
    return None, []


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
