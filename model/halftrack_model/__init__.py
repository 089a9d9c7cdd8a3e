"""The words both sides share: frozen dataclasses and pure functions, standard library only."""
