"""Parse HTML, as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))


def elements(html: str) -> list[tuple[str, dict[str, str]]]:
    """Return every element's name and attributes, in their order."""
    collector = _Collector()
    collector.feed(html)
    collector.close()
    return collector.elements


def find_all(html: str, tag: str) -> list[dict[str, str]]:
    """Return the attributes of every element with this tag."""
    return [attributes for name, attributes in elements(html) if name == tag]


def find(html: str, tag: str) -> dict[str, str]:
    """Return the attributes of the only element with this tag."""
    (attributes,) = find_all(html, tag)
    return attributes


def skeleton(html: str) -> list[tuple[str, list[str]]]:
    """Return the parts that only the template's author may decide: elements, attribute names."""
    return [(tag, list(attributes)) for tag, attributes in elements(html)]
