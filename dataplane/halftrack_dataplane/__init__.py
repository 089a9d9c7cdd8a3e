"""Moves frames: the shared-memory ring, the bridge between hosts, merge, and the SDK for vertices."""
