"""The generated pages say what the code says now."""

import runpy
from pathlib import Path

from neocog.core.registry import names

ROOT = Path(__file__).resolve().parents[1]


def test_the_zoo_page_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_zoo.py"))["page"]()
    assert made == (ROOT / "docs" / "zoo.md").read_text("utf-8"), "run scripts/docs"
    assert all(f"| `{name}` | [" in made for name in names())
