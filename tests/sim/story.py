"""The story of a run: every event as a sentence, a digest over all of them, and the last ones for whoever reads a failure."""

import hashlib
from collections import deque

KEPT = 40


class Story:
    """Told as it happens. Two runs with the same digest are the same run."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.events = 0
        self._hash = hashlib.sha256()
        self._recent: deque[str] = deque(maxlen=KEPT)

    def tell(self, who: str, text: str) -> None:
        """One event."""
        line = f"{self.now_ms / 1000:9.3f} s  {who:<11} {text}"
        self.events += 1
        self._hash.update(line.encode())
        self._recent.append(line)

    def digest(self) -> str:
        """Of everything told so far."""
        return self._hash.hexdigest()

    def recent(self) -> str:
        """The last events, oldest first."""
        return "\n".join(self._recent)
