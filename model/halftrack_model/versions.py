"""Versions of releases: Semantic Versioning 2.0.0, parsed and ordered."""

import re
from dataclasses import dataclass
from functools import total_ordering

from halftrack_model.errors import InvalidInput

# The grammar of https://semver.org (2.0.0), clauses 2, 9 and 10.
_NUMBER = r"0|[1-9][0-9]*"
_LABEL = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_LABEL}(?:\.{_LABEL})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """One version; ordered by SemVer's precedence (clause 11), build metadata ignored."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> "Version":
        """The version that `text` spells, or InvalidInput."""
        match = _SEMVER.fullmatch(text)
        if match is None or len(text) > 64:
            raise InvalidInput("bad-version", f"{text!r} is not a version: write MAJOR.MINOR.PATCH, for example 1.4.0")
        major, minor, patch, pre = match.groups()
        return Version(int(major), int(minor), int(patch), tuple(pre.split(".")) if pre else ())

    def _key(self) -> tuple[object, ...]:
        labels = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, labels)

    def __lt__(self, other: "Version") -> bool:
        return self._key() < other._key()

    def __str__(self) -> str:
        core = f"{self.major}.{self.minor}.{self.patch}"
        return f"{core}-{'.'.join(self.pre)}" if self.pre else core
