"""What libraries find wrong, in words for people: no types of a programming language, no patterns, no numbers."""

import re
import unicodedata
from collections.abc import Sequence

# A stream's name, as `tracker.config.STREAM_NAME` has it.
NAME_RULE = "1 to 64 of a-z, 0-9, _, . and -, the first one a letter or a digit"
# What texts that have to match a pattern are like, by a part of the pattern.
_PATTERNS = {
    "https?://": " that begins with http:// or https:// and has no spaces",
    "(tcp|ipc)://": " that begins with tcp:// or ipc://",
    "[0-9]{1,5}": " like HOST:PORT, such as 127.0.0.1:9464",
    "[a-z][a-z0-9": ": 1 to 32 of a-z, 0-9, _ and -, the first one a letter",
    "a-z0-9": f": {NAME_RULE}",
    "A-Za-z0-9": ": letters, digits, _, ., + and -",
    "x1f": " without control characters",
}

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bytes": "bytes",
    "bool": "true or false",
    "null": "nothing",
    "array": "a list",
    "object": "a map",
}
_VALUE_KINDS = {
    type(None): "nothing",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    bytes: "bytes",
    list: "a list",
    dict: "a map",
}
_YAML_KINDS = {bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
_BOUNDS = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}


def in_words(text: str, choices: Sequence[object] = ()) -> str:
    """The same as msgspec's text, with what is right first: "must be a whole number, not text".

    `choices` are those that a value of few can have: msgspec does not say them.
    """
    if (unknown := re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL)) is not None:
        return f"unknown field {unknown[1]!r}"
    if (missing := re.fullmatch(r"Object missing required field `(.*)`", text)) is not None:
        return f"{missing[1]} is missing"
    if (choice := re.fullmatch(r"Invalid enum value (.*)", text, re.DOTALL)) is not None:
        return f"{choice[1]} is not one of: {', '.join(map(str, choices))}"
    expected = re.fullmatch(r"Expected `([^`]*)`(.*?)(?:, got (.*))?", text, re.DOTALL)
    if expected is None:
        return text[:1].lower() + text[1:]
    kinds, limits, got = expected.groups()
    wanted = f"must be {_kinds(kinds)}{_limits(limits, kinds)}"
    return wanted if got is None else f"{wanted}, not {_got(got)}"


def kind_in_words(value: object) -> str:
    """A value's type: "a whole number", "a list"; of any other than those that messages have, "something else"."""
    return _VALUE_KINDS.get(type(value), "something else")


def place_and_words(error: Exception, choices: Sequence[object] = ()) -> tuple[str, str]:
    """Where in a map msgspec found something wrong (`.line[1][0]`; "" for the whole), and what, in words."""
    text, of_key, place = str(error).partition(" - at `key` in `$")
    if of_key:
        return place.rstrip("`"), f"a key {in_words(text, choices)}"
    text, _, place = str(error).partition(" - at `$")
    return place.rstrip("`"), in_words(text, choices)


def name_problem(name: object, pattern: str) -> str | None:
    """What is wrong with a name that stands in YAML as a key (`a stream's name …`); None: nothing."""
    if isinstance(name, str):
        return None if re.match(pattern, name) else f"must be {NAME_RULE}"
    kind = _YAML_KINDS.get(type(name), "no text")
    return f"must be text, and YAML takes this for {kind}: put it in quotes"


def of_option(error: Exception) -> str:
    """The same for somebody who gave the map's fields as options."""
    place, words = place_and_words(error)
    name = re.match(r"\.(\w+)", place)
    return words if name is None else f"--{name[1].removesuffix('_s').replace('_', '-')}: {words}"


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Of a text file, without numbers of the operating system."""
    return "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def _kinds(kinds: str) -> str:
    """`int | null` is an argument that may be left out."""
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null" or kinds == "null")


def _got(got: str) -> str:
    kind = got.strip("`")
    return "a fraction" if kind == "float" else _KINDS.get(kind, kind)


def _limits(limits: str, kinds: str) -> str:
    if limits.startswith(" matching regex"):
        return next((words for part, words in _PATTERNS.items() if part in limits), " of another form")
    of = " of length" in limits
    unit = "" if not of else " characters" if "str" in kinds else " items"
    words = limits.replace(" of length", "").replace(" that's", ",")
    for sign, word in _BOUNDS.items():
        words = re.sub(rf" {re.escape(sign)} ", f" {word} ", words)
    exactly = " of" if re.match(r" \d", words) else ""
    return f"{exactly}{words}{unit.removesuffix('s') if words.endswith(' 1') else unit}"


def counted(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Text that strangers may have written, with everything that a terminal would obey written out.

    Labels, file names, URLs and errors come from cameras and other programs. A control character could move the
    cursor or set the window's title; a bidirectional one could show text in another order than it is in.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(visible(character) for character in text)


def visible(character: str) -> str:
    """A character, or its escape where a terminal would obey it."""
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
