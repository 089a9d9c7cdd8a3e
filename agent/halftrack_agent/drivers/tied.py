"""A program that ends with the one that has begun it, whatever it is: `python -I -S tied.py PARENT WORD…` becomes those words.

For a child that cannot be relied on to see to that itself. Standard library only, as `confine`.
"""

import os
import sys

if __name__ == "__main__":  # started by path: make our own package importable, behind the standard library
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from halftrack_agent.drivers import confine

UNABLE = 127  # as a shell says it


def main(parent: str, words: list[str]) -> int:
    """Returns only when it cannot become them."""
    confine.end_with(int(parent))
    try:
        os.execvp(words[0], words)  # noqa: S606 - an argument list; no shell is meant
    except OSError as error:
        print(f"it cannot be started: {error.strerror}", file=sys.stderr)
    return UNABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
