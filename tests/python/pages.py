"""A page as a browser would read it, and what every page that Plumb writes keeps to."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def hold_self_contained(text):
    """No script, nothing from elsewhere, no character that moves or hides text. The parsed page."""
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)
    parsed = Page(text)
    assert not parsed.tags & {"img", "script", "link", "iframe", "object", "form", "base"}
    assert not any(name.startswith("on") or name in ("src", "href") for name, _ in parsed.attributes)
    assert not re.search(r"url\(|@import|https?:", text)
    return parsed
