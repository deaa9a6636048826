"""Files from elsewhere (`s3://…`, `https://…`), fetched whole into a folder of bounded size.

What was fetched may be deleted again to make room; its digest is kept, and fetching anew must give the same. A file is
read once in a process before it is believed: a disk may have lost or changed some of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from .errors import RecipeError
from .keys import DIGEST_BYTES, digest, file_digest

MAX_BYTES = 20 << 30
_BLOCK = 1 << 22
_ATTEMPTS = 3
_LEFT_SECONDS = 86_400
"""What a fetch began and did not finish for so long was left by a process that was killed."""
_PACKAGES = {
    "s3fs": "s3fs",
    "gcsfs": "gcsfs",
    "adlfs": "adlfs",
    "paramiko": "paramiko",
    "smbclient": "smbprotocol",
    "ocifs": "ocifs",
    "ossfs": "ossfs",
    "webdav4": "webdav4",
    "dropboxdrivefs": "dropboxdrivefs",
    "gdrive_fsspec": "gdrive-fsspec",
    "lakefs_spec": "lakefs-spec",
    "fsspec_xrootd": "fsspec-xrootd",
}
"""Which pip package brings a driver, by the module that is missing; else they are called alike."""
_MARKS = (
    *("etag", "ETag", "md5Hash", "Content-MD5", "Digest", "version_id", "generation", "sha"),
    *("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created"),
)
"""What a server may tell of a file that changes when its content does; its size alone is not enough."""


class NoFile(RecipeError):
    """There is nothing at the address: the server said so, not merely nothing."""


class Found(NamedTuple):
    """A file elsewhere as it was when this process first asked: its marks, and the digest and size of its content."""

    url: str
    marks: str
    digest: str
    size: int


class FetchedFiles:
    """A folder of files that were fetched, the longest unused deleted first once they are more than `max_bytes`.

    The file fetched last stays even where it alone is more. Several processes may share the folder.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._found: dict[str, Found] = {}
        self._lock = threading.Lock()

    def matching(self, url: str) -> list[str]:
        """The addresses that a pattern stands for, sorted; the address itself where it is none."""
        if not any(sign in url for sign in ("*", "[")):
            return [url]
        with _told(url):
            system, path = _system(url)
            return sorted(str(system.unstrip_protocol(name)) for name in system.glob(path))

    def beside(self, url: str) -> list[str]:
        """Names of some files in the folder of an address, for messages; none where it cannot be listed."""
        try:
            system, path = _system(url)
            return sorted(str(name).rsplit("/", 1)[-1] for name in system.ls(path.rsplit("/", 1)[0], detail=False))
        except Exception:  # a hint is not worth an error, and each driver has errors of its own
            return []

    def find(self, url: str) -> Found:
        """What is at the address, asked once in a process: a plan must not see it change.

        Raises `RecipeError` where there is no such file, the driver is not installed, or the server cannot be reached.
        """
        with self._lock:
            known = self._found.get(url)
            if known is None:
                marks = self._marks(url)
                known = self._kept(url, marks) or self._fetch(url, marks)
                self._found[url] = known
            return known

    def local(self, found: Found) -> Path:
        """The file on this machine, fetched again where it had to go; raises `RecipeError` where it is another now."""
        with self._lock:
            path = self._path(found.url, found.marks)
            if _is_whole(path, found):
                return path
            again = self._fetch(found.url, found.marks)
            if again.digest != found.digest:
                raise RecipeError(
                    f"{found.url}: the file was changed since the run began: it had {found.size:,} bytes, now it has "
                    f"{again.size:,}",
                    "Run again in a new process.",
                )
            return path

    def _path(self, url: str, marks: str) -> Path:
        return self.folder / digest(f"{url}\n{marks}".encode())

    def _marks(self, url: str) -> str:
        with _told(url):
            system, path = _system(url)
            info = system.info(path)
            if info.get("type") == "directory":
                raise RecipeError(f"`{url}` is a folder, not a file", "Name the files in it, for instance with `/*`.")
        marks = {name: str(info[name]) for name in _MARKS if info.get(name) is not None}
        # Without any mark nobody can say whether it is still the same: each process fetches it.
        return json.dumps({"size": info.get("size"), **(marks or {"process": uuid.uuid4().hex})}, sort_keys=True)

    def _kept(self, url: str, marks: str) -> Found | None:
        try:
            kept = json.loads(self._path(url, marks).with_suffix(".json").read_text(encoding="utf-8"))
            return Found(url, marks, str(kept["digest"]), int(kept["size"]))
        except (OSError, ValueError, KeyError):
            return None

    def _fetch(self, url: str, marks: str) -> Found:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(url, marks)
        part = path.with_suffix(f".{uuid.uuid4().hex}.part")
        try:
            size, content = self._copied(url, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        aside = path.with_suffix(f".{uuid.uuid4().hex}.part")
        aside.write_text(json.dumps({"url": url, "digest": content, "size": size}), encoding="utf-8")
        os.replace(aside, path.with_suffix(".json"))
        self._make_room(path)
        return Found(url, marks, content, size)

    def _copied(self, url: str, part: Path) -> tuple[int, str]:
        with _told(url):
            system, path = _system(url)
            for attempt in range(_ATTEMPTS):
                state, size = blake2b(digest_size=DIGEST_BYTES), 0
                try:
                    with system.open(path, "rb") as source, part.open("wb") as target:
                        total = getattr(source, "size", None)
                        while block := source.read(_BLOCK):
                            target.write(block)
                            state.update(block)
                            size += len(block)
                            _show(url, size, total)
                        target.flush()
                        os.fsync(target.fileno())  # else a power cut may leave the name with other content
                    if total is not None and size < total:
                        raise OSError(f"it ended after {size:,} of {total:,} bytes")
                    return size, state.hexdigest()
                except FileNotFoundError:
                    raise
                except OSError:
                    if attempt + 1 == _ATTEMPTS:
                        raise
        raise AssertionError("unreachable")

    def _make_room(self, newest: Path) -> None:
        files = []
        for path in self.folder.iterdir():
            if path.suffix == ".part" and is_left(path):
                path.unlink(missing_ok=True)
            if not path.suffix and path != newest and path.is_file():
                with contextlib.suppress(OSError):  # another process may be making room too
                    stat = path.stat()
                    files.append((max(stat.st_atime_ns, stat.st_mtime_ns), stat.st_size, path))
        room = self.max_bytes - newest.stat().st_size - sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if room >= 0:
                return
            path.unlink(missing_ok=True)
            room += size


FILES = FetchedFiles(Path.home() / ".cache" / "stillhouse" / "fetched")
"""Those of this user. `keep_fetched` moves them or changes their bound."""


def keep_fetched(folder: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> None:
    """Keep files that are fetched in `folder` from now on, in this process, and not more than `max_bytes` of them."""
    if max_bytes <= 0:
        raise RecipeError(f"`max_bytes` is {max_bytes}", "Give a number of bytes above 0.")
    FILES.folder, FILES.max_bytes = Path(folder).expanduser(), max_bytes


def is_left(path: Path) -> bool:
    """Whether a file or folder of a fetch has not been written to for a day: nobody is at it any more."""
    try:
        return time.time() - path.stat().st_mtime > _LEFT_SECONDS
    except OSError:  # whoever is at it has just finished
        return False


def _is_whole(path: Path, found: Found) -> bool:
    """Whether the file is there with the content that was found; its use is written down, so that it stays."""
    try:
        stat = path.stat()
        if stat.st_size != found.size or file_digest(path) != found.digest:
            return False
    except OSError:  # it is not there, or another process makes room at this moment
        return False
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))  # by the time of its content its digest is remembered
    return True


def _show(url: str, size: int, total: int | None) -> None:
    """How far a long fetch is, on a terminal: it goes on before any step begins, whose progress could be shown."""
    if sys.stderr.isatty() and (total is None or total > 16 * _BLOCK):
        of = "" if total is None else f" of {total >> 20:,}"
        end = "\n" if total is not None and size >= total else ""
        print(f"\rfetching {url}: {size >> 20:,}{of} MB", end=end, file=sys.stderr, flush=True)


def _system(url: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"`{url}`: files from elsewhere are read through `fsspec`, which is not installed",
            "`pip install 'stillhouse[hub]'`.",
        ) from error
    found: tuple[Any, str] = url_to_fs(url)
    return found


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Errors of fsspec and of its drivers in our words."""
    scheme = url.partition("://")[0]
    try:
        yield
    except RecipeError:
        raise
    except ImportError as error:
        raise RecipeError(
            f"`{url}`: the driver of fsspec for `{scheme}://` is not installed", f"`pip install {_package(scheme)}`."
        ) from error
    except FileNotFoundError as error:
        cause = error.__cause__  # of web servers, fsspec says this of whatever went wrong
        if cause is None or getattr(cause, "status", None) in (404, 410):
            raise NoFile(f"there is no file `{url}`") from error
        raise RecipeError(
            f"`{url}` cannot be read: {_first_line(cause)}", "Check the address, the network and the keys."
        ) from error
    except PermissionError as error:
        raise RecipeError(
            f"`{url}` may not be read: {_first_line(error)}",
            f"The driver for `{scheme}://` takes its keys from where its provider's own tools keep them.",
        ) from error
    except ValueError as error:
        if "not known" not in str(error):
            raise RecipeError(f"`{url}` cannot be read: {_first_line(error)}") from error
        raise RecipeError(
            f"`{url}`: nobody knows the scheme `{scheme}://`", "Is it spelt right? s3, gs, az, https, … are known."
        ) from error
    except Exception as error:  # drivers raise what their clients raise: botocore, aiohttp, azure
        raise RecipeError(
            f"`{url}` cannot be read: {_first_line(error)}", "Check the address, the network and the keys."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _package(scheme: str) -> str:
    """The pip package with the driver of a scheme."""
    from fsspec.registry import known_implementations

    entry = known_implementations.get(scheme, {})
    module = str(entry.get("class", "")).partition(".")[0]
    if module == "fsspec":  # a driver of its own that needs a client
        module = {"sftp": "paramiko", "ssh": "paramiko", "smb": "smbclient", "http": "aiohttp"}.get(scheme, "requests")
    return _PACKAGES.get(module, module.replace("_", "-") or scheme)
