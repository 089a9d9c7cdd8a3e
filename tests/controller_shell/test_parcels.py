"""Parcels at the controller: offered for what a host holds, cached within bounds, and no hindrance to anybody of before."""

import os
import random
from pathlib import Path

import pytest

from halftrack_controller import parcels
from halftrack_controller.parcels import Parcels, bases
from halftrack_model.ids import digest_of

OLD = random.Random(2).randbytes(40_000)


def put(folder: Path, data: bytes) -> Path:
    path = folder / digest_of(data).removeprefix("sha256:")
    path.write_bytes(data)
    return path


def test_a_parcel_is_made_once_and_found_again_by_its_digest(tmp_path: Path) -> None:
    old, new = put(tmp_path, OLD), put(tmp_path, OLD + b"more")
    made = Parcels(tmp_path / "parcels")
    parcel = made.packed(new, old)
    assert parcel is not None
    assert parcel.base == f"sha256:{old.name}"
    place = made.path(parcel.digest)
    assert place is not None
    assert (digest_of(place.read_bytes()), place.stat().st_size) == (parcel.digest, parcel.size_bytes)
    new.unlink()  # from now on it could not be made
    assert Parcels(tmp_path / "parcels").packed(new, old) == parcel
    assert made.path(digest_of(b"another")) is None


def test_what_does_not_shrink_is_not_packed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, made = put(tmp_path, OLD), Parcels(tmp_path / "parcels")
    assert made.packed(new, None) is None
    monkeypatch.setattr(parcels, "compressed", lambda *_: pytest.fail("packed again"))
    assert made.packed(new, None) is None
    assert list((tmp_path / "parcels").iterdir()) == []


def test_the_cache_keeps_to_its_bounds_and_lets_the_least_used_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "CACHED", 3)
    made, seen = Parcels(tmp_path / "parcels"), []
    texts = [put(tmp_path, b"%d and more " % number * 500) for number in range(5)]
    for number, path in enumerate(texts):
        parcel = made.packed(path, None)
        assert parcel is not None
        place = made.path(parcel.digest)
        assert place is not None
        os.utime(place, ns=(number, number))
        seen.append(parcel)
        if number == 2:
            assert made.packed(texts[0], None) == seen[0]  # used again just now
    assert [made.path(parcel.digest) is not None for parcel in seen] == [True, False, False, True, True]
    monkeypatch.setattr(parcels, "CACHE_BYTES", 1)
    assert made.packed(texts[1], None) is not None
    assert len(list((tmp_path / "parcels").iterdir())) == 1


def test_what_a_crash_left_of_one_is_gone(tmp_path: Path) -> None:
    (tmp_path / "parcels").mkdir()
    (tmp_path / "parcels" / "tmpabc").write_bytes(b"half")
    Parcels(tmp_path / "parcels")
    assert list((tmp_path / "parcels").iterdir()) == []


def test_the_newest_relative_that_the_host_holds_is_the_dictionary() -> None:
    assert bases(["a", "b", "c"], ["z", "c", "a"]) == ("c", "a")
