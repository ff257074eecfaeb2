"""What every page of ours promises."""

from collections.abc import Mapping, Sequence


def assert_closed(html: str, tags: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Nothing but inline styles and pictures held in the page may load, and its own links find their places. `tags`:
    every start tag with its attributes."""
    assert "url(" not in html
    assert "@import" not in html
    policy = next(a["content"] for tag, a in tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    anchors = {a["href"][1:] for tag, a in tags if tag == "a"}
    assert anchors <= {a["id"] for _, a in tags if "id" in a}
