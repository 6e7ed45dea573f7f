"""A learner's backward, judged line by line."""
