"""What every page of ours promises, and a reader of pages."""

from collections.abc import Mapping, Sequence
from html import unescape
from html.parser import HTMLParser

HOSTILE = [
    "<script>alert(1)</script>",
    "{{7*7}}{% raw %}",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></svg><iframe src=//evil>",
    "<!--",
    "\x1b[31mred\x07\n\u202egnp.exe",
    "caf\udce9",
    "javascript:alert(1)",
    "&lt;b&gt;",
]


def assert_closed(html: str, tags: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Nothing but inline styles and pictures held in the page may load, and its own links find their places. `tags`:
    every start tag with its attributes."""
    assert "url(" not in html
    assert "@import" not in html
    policy = next(a["content"] for tag, a in tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    anchors = {a["href"][1:] for tag, a in tags if tag == "a"}
    assert anchors <= {a["id"] for _, a in tags if "id" in a}


class Seen(HTMLParser):
    """What a browser would build of a page: its tags with attributes, and its text by the id of the section."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.cells, self.section, self.in_cell = [], {}, {}, "top", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag in ("td", "th"):
            self.in_cell = True
            self.cells.setdefault(self.section, []).append("")

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data
        if self.in_cell:
            self.cells[self.section][-1] += data

    def all_text(self):
        return " ".join(" ".join(self.text.values()).split())


def tags_of(html):
    """How often each tag occurs; <wbr> and <span> follow the slashes and spaces of the text itself."""
    names = [tag for tag, _ in Seen(html).tags if tag not in ("wbr", "span")]
    return {name: names.count(name) for name in names}


def assert_inert(html, plain, text):
    """`html` is the page of hostile text, `plain` that of another: the same tags, no handlers, and the text as text."""
    html.encode("utf-8")
    tags = Seen(html).tags
    assert tags_of(html) == tags_of(plain)
    assert "\u202e" not in html
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert_closed(html, tags)
    if text.isprintable():
        assert text in unescape(html)
