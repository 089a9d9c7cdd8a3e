"""Decides: planner, rollouts, store, signing, sessions, the operator CLI."""
