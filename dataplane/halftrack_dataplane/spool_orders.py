"""The spool's orders within a spec: where it lies and what it may hold. Pure; never opens the folder that it names."""

from dataclasses import dataclass, fields
from typing import Any

FULL = ("block", "drop-oldest")


@dataclass(frozen=True, slots=True)
class SpoolOrders:
    """A spool in `folder` of `size_bytes` at most. What its inlet has taken stays for `keep_ms`, room permitting; `full`: what gives at the limit."""

    folder: str
    size_bytes: int
    keep_ms: int
    full: str


def fault(orders: SpoolOrders) -> str:
    """What is wrong with them, by name of the field; empty when nothing is."""
    if not orders.folder.startswith("/"):
        return f"spool.folder: expected an absolute path, not {orders.folder!r}"
    if orders.size_bytes < 1 or orders.keep_ms < 0:
        return "spool: expected a size from 1 on, and a time from 0 on"
    if orders.full not in FULL:
        return f"spool.full: expected one of {', '.join(FULL)}, not {orders.full!r}"
    return ""


def read(tree: Any) -> SpoolOrders:
    """The orders that parsed JSON holds; ValueError, naming the field, when it holds none."""
    names = {entry.name: entry.type for entry in fields(SpoolOrders)}
    if not isinstance(tree, dict) or set(tree) != set(names):
        raise ValueError(f"spool: expected an object with exactly {', '.join(sorted(names))}")
    for name, kind in names.items():
        if type(tree[name]) is not kind:
            raise ValueError(f"spool.{name}: expected {'a string' if kind is str else 'a whole number'}")
    return SpoolOrders(**tree)
