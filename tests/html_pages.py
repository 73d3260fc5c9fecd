"""HTML as a strict reader sees it: every tag closed in order."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr"}


class Reader(HTMLParser):
    """Text of a page, its tags, its links, and what its SVG paths draw."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text, self.drawn = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.drawn += dict(attrs).get("d", "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_html(text):
    """The reader of some HTML, and its text with single spaces."""
    reader = Reader()
    reader.feed(str(text))
    reader.close()
    assert reader.open == []
    assert "script" not in reader.tags
    return reader, " ".join(" ".join(reader.text).split())
