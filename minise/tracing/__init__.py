"""Seeing and moving every intermediate of a function."""
