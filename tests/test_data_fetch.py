"""The downloader against a server that answers in full, in part, wrongly, slowly or not at all."""

import hashlib
import http.server
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neocog.core.errors import DataError
from neocog.data import fetch as module
from neocog.data import named
from neocog.data.fetch import fetch, matches

DATA = bytes(range(256)) * 4000
SHA = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA; `cut`: bytes after which each of the first connections breaks off."""

    cut: list[int]
    asked: list[str]
    status = 200
    ranges = True


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if wanted and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        body = DATA[start:]
        if self.server.cut:
            body = body[: self.server.cut.pop(0)]
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.cut, running.asked = [], []
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/some/data.bin"


def test_whole_file_with_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = fetch(url(server), tmp_path / "data.bin", SHA, on_progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]
    fetch(url(server), target, SHA)
    assert len(server.asked) == 1, "a file that is there is not asked for again"


@pytest.mark.parametrize("digest", [SHA[:8], "md5:" + hashlib.md5(DATA).hexdigest(), SHA.upper()])
def test_kinds_of_digest(server: Server, tmp_path: Path, digest: str) -> None:
    assert fetch(url(server), tmp_path / "x", digest).read_bytes() == DATA


def test_broken_connections_are_continued(server: Server, tmp_path: Path) -> None:
    server.cut = [300_000, 500_000]
    assert fetch(url(server), tmp_path / "x", SHA, pause=0).read_bytes() == DATA
    assert server.asked == ["", "bytes=300000-", "bytes=800000-"]


def test_a_part_of_an_earlier_run_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(DATA[:1000])
    assert fetch(url(server), tmp_path / "x", SHA).read_bytes() == DATA
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "x.part").write_bytes(b"something else")
    assert fetch(url(server), tmp_path / "x", SHA).read_bytes() == DATA


def test_a_part_that_is_too_long_begins_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(DATA + b"more")
    assert fetch(url(server), tmp_path / "x", SHA, pause=0).read_bytes() == DATA


def test_wrong_content_is_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.bin sent is not the published file .* removed"):
        fetch(url(server), tmp_path / "x", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_wrong_file_in_place_is_named_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(DataError, match="x is not the published file"):
        fetch(url(server), tmp_path / "x", SHA)
    assert (tmp_path / "x").read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, 3)])
def test_server_errors(server: Server, tmp_path: Path, status: int, tries: int) -> None:
    server.status = status
    with pytest.raises(DataError, match=rf"answered {status}") as caught:
        fetch(url(server), tmp_path / "x", SHA, pause=0)
    assert len(server.asked) == tries
    assert str(tmp_path / "x") in caught.value.hint


def test_no_network_says_what_to_put_where(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/data.bin"
    with pytest.raises(DataError, match=rf"x could not be downloaded .*get {address} and put it at {tmp_path}/x"):
        fetch(address, tmp_path / "x", SHA, pause=0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # http.client leaves a socket open
def test_a_server_that_falls_silent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}/x"
        with pytest.raises(DataError, match="timed out"):
            fetch(address, tmp_path / "x", SHA, pause=0)


@pytest.mark.parametrize("address", ["http://example.org/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_only_https_leaves_the_machine(tmp_path: Path, address: str) -> None:
    with pytest.raises(DataError, match="no https address"):
        fetch(address, tmp_path / "x", SHA)


def test_a_short_digest_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(ValueError, match="eight digits"):
        matches(tmp_path / "x", "e3b0")


def test_every_named_set_states_its_facts() -> None:
    assert list(named.NAMED) == ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "flowers102"]
    for name, entry in named.NAMED.items():
        assert entry.name == name
        assert entry.licence
        assert sum(entry.counts.values()) > 1000
        assert bool(entry.files) == bool(entry.megabytes) == (name != "digits")
        assert all(digest.startswith("md5:") and len(digest) == 36 for _, digest in entry.files)


def test_get_fetches_and_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("folder/x.txt")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    packed = buffer.getvalue()

    def fetched(url: str, target: Path, digest: str, *, on_progress: Any) -> Path:
        assert digest.startswith("md5:c32a")
        target.write_bytes(packed)
        on_progress(len(packed), len(packed))
        return target

    monkeypatch.setattr(named.fetch, "fetch", fetched)
    seen = []
    named.get("cifar10", tmp_path / "new", on_progress=lambda *facts: seen.append(facts))
    assert (tmp_path / "new" / "folder" / "x.txt").read_text() == "hello"
    assert seen == [("cifar-10-binary.tar.gz", len(packed), len(packed))]


def test_get_refuses_what_it_cannot_get(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean mnist"):
        named.get("mnits", tmp_path)
    with pytest.raises(DataError, match="needs no download"):
        named.get("digits", tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/absolute/outside"])
def test_archives_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "in").mkdir()
    if name.startswith("/"):  # its first slash is taken away
        named.unpack(tmp_path / "bad.tgz", tmp_path / "in")
        assert (tmp_path / "in" / "absolute" / "outside").exists()
    else:
        with pytest.raises(DataError, match="cannot be unpacked"):
            named.unpack(tmp_path / "bad.tgz", tmp_path / "in")
        assert not (tmp_path / "outside").exists()


def test_a_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.tgz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be unpacked"):
        named.unpack(tmp_path / "bad.tgz", tmp_path)
