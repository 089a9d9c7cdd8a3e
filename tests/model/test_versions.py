"""Versions keep Semantic Versioning's grammar and its order (https://semver.org, clauses 2, 9, 10 and 11)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model.errors import InvalidInput
from halftrack_model.versions import Version
from tests.model.shapes import versions

# Clause 11's own example, in rising order.
RISING = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 2.0.0 2.1.0 2.1.1"


def test_the_order_is_the_specifications() -> None:
    rising = [Version.parse(text) for text in RISING.split()]
    assert sorted(set(rising)) == rising


@given(versions)
def test_text_and_version_are_one(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(versions, versions, versions)
def test_the_order_is_total(a: Version, b: Version, c: Version) -> None:
    assert (a < b) + (a == b) + (a > b) == 1
    assert not (a <= b <= c) or a <= c


@given(versions)
def test_a_pre_release_comes_before_its_release(version: Version) -> None:
    release = Version(version.major, version.minor, version.patch)
    assert (version < release) == bool(version.pre)


@given(versions, st.from_regex(r"\+[0-9A-Za-z-]{1,8}", fullmatch=True))
def test_build_metadata_does_not_count(version: Version, build: str) -> None:
    assert Version.parse(f"{version}{build}") == version


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "v1.2.3", "1.2.3 ", "1.2.3\n", "-1.2.3",
     "1.2.3+", "1.2.x", "\u0661.2.3", "1." + "2" * 80 + ".3"],
)  # fmt: skip
def test_what_is_no_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"1\.4\.0") as refusal:
        Version.parse(text)
    assert refusal.value.reason == "bad-version"
