"""What a page in one file must be, as laws over its text."""

import base64
import re
from html.parser import HTMLParser

VOID = {"img", "meta"}
KNOWN = set(
    "html head meta title style body header nav main section h1 h2 p ul li a dl dt dd figure figcaption div img table "
    "thead tbody tr th td details summary pre code strong".split()
)
KNOWN_ATTRIBUTES = set(
    "lang charset name content http-equiv class id href src alt scope tabindex role aria-label".split()
)


class Page(HTMLParser):
    """Elements with their attributes, in order, and all text outside of the style."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def is_whole(text: str) -> Page:
    """One page that needs nothing: well-formed, known elements alone, pictures inside, links to its own parts."""
    page = Page(text)
    assert not page.open, f"not closed: {page.open}"
    for tag, attributes in page.elements:
        assert tag in KNOWN and attributes.keys() <= KNOWN_ATTRIBUTES, (tag, attributes.keys())
    assert not re.search(r"url\(|@import|//", page.style)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id twice"
    assert {a["href"] for a in page.all("a")} == {f"#{name}" for name in ids}
    for image in page.all("img"):
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(data, validate=True).startswith(b"\x89PNG")
        assert image["alt"].strip()
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert len(page.all("h1")) == 1 and page.all("html") == [{"lang": "en"}]
    policy = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in policy[0] and "script" not in policy[0]
    return page
