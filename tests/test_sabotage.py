"""Sabotage (tests/sabotage.py): every fault still has its place. The script itself takes minutes."""

import shutil
from pathlib import Path

import pytest

from sabotage import FAULTS, PACKAGE, Fault, plant


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_the_fault_can_be_planted(fault: Fault, tmp_path: Path) -> None:
    copy = tmp_path / fault.file
    copy.parent.mkdir(parents=True)
    shutil.copy(PACKAGE / fault.file, copy)
    plant(fault, tmp_path)
    changed = copy.read_text("utf-8")
    assert changed != (PACKAGE / fault.file).read_text("utf-8")
    compile(changed, fault.file, "exec")


def test_there_are_at_least_a_dozen_in_as_many_files() -> None:
    assert len(FAULTS) >= 12
    assert len({fault.file for fault in FAULTS}) >= 12
