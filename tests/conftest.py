"""What every test may rely on: no network but loopback, two threads, an empty cache folder, judges where installed."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# Before torch reads them. Sums of floats depend on the number of threads; and threads that wait for each other
# in a long spin stand still where other programs want the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import pytest

from command import Command, Result
from neocog.cli.main import main
from torchvision_operators import declare_missing

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
NOWHERE = ("127.0.0.1", 9)  # the proxy of child processes, which the audit hook below does not see


def _only_loopback(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""  # Unix sockets have a path instead
        host = "through the proxy" if address == NOWHERE else host
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and not host.startswith(LOOPBACK):
        raise RuntimeError(f"a test reached for the network: {event} {host}")


sys.addaudithook(_only_loopback)


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty user cache; and a proxy that is not there, so that no child process downloads either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for scheme in ("http", "https"):
            patch.setenv(f"{scheme}_proxy", "http://{}:{}".format(*NOWHERE))
        patch.setenv("no_proxy", "127.0.0.1,localhost,::1")
        patch.delenv("COLUMNS", raising=False)  # how wide a table is printed; several workers at once set it
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("../shared/data is absent: this test needs real data")
    return folder


_operators = declare_missing()  # kept: what a Library declares is gone when it is


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    return pytest.importorskip("torchvision", reason="torchvision, a judge, is not installed")


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    return pytest.importorskip("timm", reason="timm, a judge, is not installed")


@pytest.fixture
def neocog(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`neocog("train", folder, "--epochs", 1)` in this process, from an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Result:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Result(int(caught.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, for tests that look at pages."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium to look with")
    with playwright.sync_playwright() as p:
        instance = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield instance
        instance.close()
