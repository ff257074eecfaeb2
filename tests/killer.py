"""Runs `neocog` in processes of their own and kills them at chosen moments.

The processes are forks of one that has imported everything and computed nothing: a start costs milliseconds, and no
thread is lost in the fork. Started as `python killer.py`; speaks JSON, a line each way.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from neocog.cli import main as cli


class End(NamedTuple):
    """`code`: as a shell shows it, negative for a signal that killed. `err`: what was said on stderr."""

    code: int
    seconds: float
    err: str


class Killer:
    def __init__(self, cache: Path, **patches: float) -> None:
        """`patches`: values of names in neocog.training.loop, for the children."""
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(patches)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(
        self, *words: object, kill: int = 0, when: Path | None = None, after: float = 0.0,
        again_after: float | None = None,
    ) -> End:  # fmt: skip
        """`neocog words...`, which gets the signal `kill` so many seconds after it began, or after the file `when` was
        there, and again after some more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"words": [str(word) for word in words], "kill": kill, "after": after, "again": again_after,
                 "when": when and str(when)}  # fmt: skip
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return End(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def serve(patches: dict[str, float]) -> None:
    from neocog.app import preparing
    from neocog.training import loop

    preparing.describe_network = lambda *_: iter(())  # first lines of a run: half of the time of one so small
    for name, value in patches.items():
        setattr(loop, name, value)
    for line in sys.stdin:
        print(json.dumps(attend(json.loads(line))), flush=True)


def attend(order: dict[str, Any]) -> End:
    said = Path(f"/tmp/killer-{os.getpid()}.err") if not hasattr(os, "memfd_create") else None
    descriptor = os.open(said, os.O_RDWR | os.O_CREAT | os.O_TRUNC) if said else os.memfd_create("err")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(descriptor, 2)
        try:
            cli.main(order["words"])
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(int(end.code or 0))
    while order["when"] and not os.path.exists(order["when"]):
        time.sleep(0.001)
    for pause in (order["after"], order["again"]):
        if order["kill"] and pause is not None:
            time.sleep(pause)
            os.kill(child, order["kill"])
    _, status = os.waitpid(child, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    err = os.read(descriptor, 10_000).decode(errors="replace")
    os.close(descriptor)
    return End(os.waitstatus_to_exitcode(status), time.monotonic() - started, err)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(json.loads(sys.argv[1]))
