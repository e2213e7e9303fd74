"""What is wrong with a value is said in words, whatever msgspec calls it."""

from typing import Annotated, Any, Literal, get_args

import msgspec
import pytest
from msgspec import Meta, Struct

from tracker.config import STREAM_NAME
from tracker.config.wording import in_words


class Section(Struct, forbid_unknown_fields=True):
    url: str


CASES: list[tuple[Any, object, str]] = [
    (int, "two", "must be a whole number, not text"),
    (int | None, 1.5, "must be a whole number, not a fraction"),
    (float, None, "must be a number, not nothing"),
    (str, b"x", "must be text, not bytes"),
    (bytes, "x", "must be bytes, not text"),
    (bool, 1, "must be true or false, not a whole number"),
    (dict, [], "must be a map, not a list"),
    (list[int] | None, {}, "must be a list, not a map"),
    (Annotated[int, Meta(ge=1)], 0, "must be a whole number of at least 1"),
    (Annotated[float, Meta(gt=0)], 0.0, "must be a number above 0.0"),
    (Annotated[float, Meta(le=1)], 2.0, "must be a number of at most 1.0"),
    (Annotated[float, Meta(lt=1)], 1.0, "must be a number below 1.0"),
    (Annotated[int, Meta(multiple_of=32)], 31, "must be a whole number, a multiple of 32"),
    (Annotated[str, Meta(min_length=1)], "", "must be text of at least 1 character"),
    (Annotated[list, Meta(min_length=2)], [1], "must be a list of at least 2 items"),
    (tuple[int, int], [1, 2, 3], "must be a list of 2 items, not 3"),
    (
        Annotated[str, Meta(pattern=STREAM_NAME)],
        "Cam 1",
        "must be text: 1 to 64 of a-z, 0-9, _, . and -, the first",
    ),
    (Literal["a", "b"], "c", "'c' is not one of: a, b"),
    (Section, {}, "url is missing"),
    (Section, {"url": "x", "ulr": "x"}, "unknown field 'ulr'"),
]


@pytest.mark.parametrize(("type_", "value", "words"), CASES)
def test_words(type_: Any, value: object, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, type_, builtin_types=(bytes,))
    said = in_words(str(caught.value), get_args(type_))
    assert said.startswith(words)
    assert "`" not in said
