"""Settings: an unknown key is answered with the file, the key, and the nearest right one, at any depth."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import model_validator

from cxr.config import StrictModel, load_settings
from cxr.errors import UsageError


class Inner(StrictModel):
    width: int = 1


class Outer(StrictModel):
    depth: int
    inner: Inner = Inner()
    other: Inner | None = None
    more: "Outer | None" = None
    levels: Literal["exact"] | list[int] = "exact"

    @model_validator(mode="after")
    def _not_both(self) -> "Outer":
        if self.depth > 9:
            raise ValueError("depth: 9 at most")
        return self


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depht: 1", "unknown key 'depht'; did you mean 'depth'?"),
        ("depth: 1\ninner: {widht: 2}", "unknown key 'inner.widht'; did you mean 'width'?"),
        ("depth: 1\nother: {hue: 2}", "unknown key 'other.hue'; known keys: width"),
        ("depth: 1\nmore: {depth: 10}", "mine.yaml: more.depth: 9 at most"),
        ("depth: 10", "mine.yaml: depth: 9 at most"),
        ("depth: deep", "key 'depth'"),
        ("depth: 1\nlevels: exct", "key 'levels': Input should be 'exact', or: Input should be a valid list"),
        ("depth: 1\nlevels: [1, x]", "mine.yaml: key 'levels.1': Input should be a valid integer"),
        ("- 1", "expected 'key: value' lines"),
        ("depth: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings(tmp_path / "mine.yaml", Outer)
    assert said in str(caught.value)
    assert "mine.yaml" in str(caught.value)
