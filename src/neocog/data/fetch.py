"""The only door to the network: one URL into one file, checked by its hash, continued where it broke off."""

import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from neocog.core.errors import DataError, ResourceError

TIMEOUT = 30  # seconds without a byte
TRIES = 3
BLOCK = 2**18
# Plain HTTP is allowed where no HTTPS exists or the traffic stays on the machine; the hash protects either way.
HTTP_HOSTS = {"localhost", "127.0.0.1", "fashion-mnist.s3-website.eu-central-1.amazonaws.com"}


def fetch(
    url: str,
    target: Path,
    sha256: str,
    *,
    on_progress: Callable[[int, int], object] | None = None,
    pause: float = 1.0,
) -> Path:
    """Downloads `url` to `target` unless it is there already, whole and right.

    `sha256`: the digest, its first digits, or "md5:" and an MD5. What arrives is kept in `target`.part until the
    hash agrees; a broken transfer continues from there, three times at most. `on_progress(done, total)`: bytes,
    total 0 where the server does not say. DataError names the file, its source and its place.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in HTTP_HOSTS):
        raise DataError(f"{url} is no https address", "give an https address")
    if target.is_file():
        if matches(target, sha256):
            return target
        raise DataError(f"{target} is not the published file (its hash differs)", "remove it and try again")
    part = target.with_name(target.name + ".part")
    problem = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 3 ** (attempt - 1))
        try:
            _transfer(url, part, on_progress)
            break
        except urllib.error.HTTPError as error:
            error.close()
            problem = f"the server answered {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 416, 429):
                raise _failed(url, target, problem) from None
            if error.code == 416:  # what is there is longer than the file: begin again
                part.unlink(missing_ok=True)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, "reason", "") or error) or type(error).__name__
        except OSError as error:
            raise ResourceError(f"{part} cannot be written ({error.strerror})", "free some space there") from None
    else:
        raise _failed(url, target, problem)
    if not matches(part, sha256):
        part.unlink()
        raise DataError(f"what {url} sent is not the published file (its hash differs); it was removed", "try again")
    part.replace(target)
    return target


def _failed(url: str, target: Path, problem: str) -> DataError:
    return DataError(f"{target.name} could not be downloaded ({problem})", f"get {url} and put it at {target}")


def _transfer(url: str, part: Path, on_progress: Callable[[int, int], object] | None) -> None:
    done = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "neocog", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        if answer.status != 206:  # the server sends everything, whatever was asked
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else 0
        with part.open("ab" if done else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                done += len(block)
                if on_progress:
                    on_progress(done, total)
    if total and done < total:
        raise ConnectionError(f"the connection broke after {done:,} of {total:,} bytes")


def matches(path: Path, digest: str) -> bool:
    """Whether the file has the hash: SHA-256 or the first digits of one, or `md5:` and an MD5."""
    kind, _, value = digest.rpartition(":")
    if len(value) < 8:
        raise ValueError("fewer than eight digits of a hash prove nothing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind or "sha256").hexdigest().startswith(value.lower())
