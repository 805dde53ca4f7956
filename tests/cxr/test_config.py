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


def write_files(folder: Path, **texts: str) -> Path:
    """Write <name>.yaml for each text; returns mine.yaml."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "mine.yaml"


def test_a_file_has_what_it_leaves_out_from_the_file_that_it_is_like(tmp_path: Path):
    path = write_files(
        tmp_path,
        mine="like: theirs\nmore: {inner: {width: 3}}",
        theirs="like: base\nlevels: [4]\nother: null\nmore: {depth: 2, levels: [1]}",
        base="depth: 1\nlevels: [1, 2, 3]\nother: {width: 5}\nmore: {depth: 7, inner: {width: 8}, other: {width: 9}}",
    )
    assert load_settings(path, Outer).model_dump(exclude_unset=True) == {
        "depth": 1, "levels": [4], "other": None,
        "more": {"depth": 2, "levels": [1], "inner": {"width": 3}, "other": {"width": 9}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mine", "base", "message"),
    [
        ("like: bse", "depth: 1", r"mine\.yaml: key 'like': there is no file 'bse\.yaml' .* did you mean base\?"),
        ("like: ../base", "depth: 1", r"mine\.yaml: key 'like': there is no file '\.\./base\.yaml'"),
        ("like:", "depth: 1", r"mine\.yaml: key 'like': there is no file 'None\.yaml'"),
        ("like: mine", "depth: 1", r"mine\.yaml: key 'like': .* in a circle: mine <- mine"),
        ("like: base", "like: mine", r"base\.yaml: key 'like': .* in a circle: mine <- base <- mine"),
        ("like: base", "depth: 1\nother: {widht: 2}", r"base\.yaml \(which mine.* unknown key 'other.widht'; did you"),
        ("like: base\nother: {hue: 2}", "depth: 1\nother: {width: 2}", r"mine\.yaml: unknown key 'other.hue'"),
        ("like: base\nother: 3", "depth: 1\nother: {width: 2}", r"mine\.yaml: key 'other'"),
        ("like: base\nmore: {levels: [1]}", "depth: 1\nmore: {depth: 10}", r"base\.yaml \(.* more\.depth: 9 at most"),
        ("like: base\ndepth: 10", "depth: 1", r"mine\.yaml: depth: 9 at most"),
        ("like: base", "levels: [1]", r"mine\.yaml: key 'depth': Field required"),
        ("like: base", "levels: [", r"base\.yaml is not valid YAML"),
    ],
)
def test_the_file_at_fault_is_named(tmp_path: Path, mine, base, message):
    with pytest.raises(UsageError, match=message):
        load_settings(write_files(tmp_path, mine=mine, base=base), Outer)
