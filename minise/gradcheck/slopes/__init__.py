"""Slopes of a function that is given: by differences and complex steps, and what they can tell."""
