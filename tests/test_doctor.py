"""`neocog doctor`, and how every command leaves where its output cannot be written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command import Command
from neocog.app import doctor

NEOCOG = [sys.executable, "-m", "neocog"]


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.row(42, "no torch is imported")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["doctor"], ["doctor", "--json"], ["doctor", "--help"]])
def test_quick_commands_import_no_torch(words: list[str]) -> None:
    code = (
        f"import sys; from neocog.cli.main import main\ntry: main({words!r})\nexcept SystemExit as e: code = e.code\n"
    )
    code += "assert code == 0; assert not {'torch', 'numpy', 'PIL', 'sklearn'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_it_names_what_is_here(neocog: Command) -> None:
    shown = neocog("doctor")
    assert shown.code == 0
    facts = json.loads(neocog("doctor", "--json").out)
    import torch

    assert facts["packages"]["torch"] == torch.__version__
    assert {"torch", "numpy", "pillow", "safetensors", "pydantic"} <= facts["packages"].keys()
    assert 0 < facts["processor"]["usable"] <= facts["processor"]["cores"]
    assert 2**27 < facts["memory"]["free"] <= facts["memory"]["total"]
    assert facts["disk"]["runs"]["folder"] == str(Path.cwd() / "runs")
    assert facts["disk"]["runs"]["free"] > 0
    for word in (torch.__version__, facts["processor"]["name"], "cores usable", "threads", "writable"):
        assert word in shown.out
    assert not list(Path.cwd().iterdir())  # it writes nothing


@pytest.mark.row(41, "`neocog doctor` names it with the `pip install` that brings it")
def test_missing_packages_are_named(neocog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: None if name in ("hypothesis", "jinja2") else known(name))
    out = neocog("doctor").out
    assert 'test: hypothesis missing: pip install "neocog[test]"' in out
    assert "jinja2 missing" in out
    assert "warning    jinja2 is missing; install it with `pip install jinja2`" in out


@pytest.mark.row(40, "`neocog doctor` tells its size and warns where several GPUs would need more")
def test_a_tiny_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Disk(2**26, 0, 2**26))
    assert doctor.examine(tmp_path)["shared_memory"] == 2**26
    assert not [text for text in doctor.examine(tmp_path)["problems"] if "shm" in text]
    monkeypatch.setattr(doctor, "gpus", lambda: [{"name": "A"}, {"name": "B"}])
    assert [text for text in doctor.examine(tmp_path)["problems"] if "--shm-size=1g" in text]


def fake_tool(folder: Path, text: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_gpus_are_what_the_driver_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    fake_tool(tmp_path, "echo 'NVIDIA H200, 143771, 570.1'; echo 'Odd, name, [N/A], 570.1'")
    first, second = doctor.gpus()
    assert first == {"name": "NVIDIA H200", "memory": 143771 * 2**20, "driver": "570.1"}
    assert second == {"name": "Odd, name", "memory": None, "driver": "570.1"}
    facts = doctor.examine(tmp_path)
    build = facts["packages"]["torch"] or ""
    assert ("+cpu" in build) == any("stays idle" in text for text in facts["problems"])
    fake_tool(tmp_path, "exit 9")
    assert "does not answer" in doctor.gpus()[0]["name"]
    monkeypatch.setattr(doctor, "GPU_SECONDS", 0.2)
    fake_tool(tmp_path, "exec sleep 20")
    assert "does not answer" in doctor.gpus()[0]["name"]


def test_a_container_has_less_than_its_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    whole = doctor.memory()
    (tmp_path / "memory.max").write_text(f"{2**28}\n")
    (tmp_path / "memory.current").write_text(f"{2**27}\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert doctor.memory() == {"total": 2**28, "free": 2**27}
    assert doctor.processor()["usable"] == 0.5
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.memory()["total"] == whole["total"]


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda place, mode: False)
    found = doctor.examine(tmp_path)["problems"]
    assert [text for text in found if text.startswith(f"{tmp_path}/runs cannot be written to; run neocog elsewhere")]
    assert [text for text in found if "XDG_CACHE_HOME" in text]


COMMANDS = [["--version"], ["doctor"], ["doctor", "--json"], ["train", "--help"]]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_full_device_is_told(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*NEOCOG, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 6
    assert done.stderr.splitlines() == [
        "error: the output could not be written (No space left on device); make room and do it again"
    ]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_reader_that_leaves_is_no_error(words: list[str]) -> None:
    program = subprocess.Popen([*NEOCOG, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    program.stdout.close()
    _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (141, b"")


def test_what_the_system_refuses_names_the_path(neocog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        Path("absent", "p.csv").write_text("")

    monkeypatch.setattr(doctor, "examine", refuse)
    refused = neocog("doctor")
    assert refused.code == 2
    assert refused.err.startswith("error: absent/p.csv cannot be used (No such file or directory); check")
    monkeypatch.setattr(doctor, "examine", lambda folder: 1 / 0)
    assert neocog("doctor").code == 1
