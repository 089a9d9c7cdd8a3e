from halftrack_dataplane.ring import Ring

__all__ = ["begins_at"]

def begins_at(ring: Ring) -> int | None: ...
