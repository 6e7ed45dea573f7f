"""Grade a backward that a learner fills in: line by line, with the reason for the first mistake.

An `Exercise` runs the learner's function on small cases and compares what its lines give with exact
slopes of the op's forward; `Answer` says the result as text and as a table with hints.
"""
