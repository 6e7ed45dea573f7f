"""See and perturb every intermediate of a function, and check gradients by what that shows.

A run of a function, of an op or of a whole net is recorded line by line: each value, the line that
gave it and what the line read (instrument, recorder, subject, leaves, source). Any of these values
can be perturbed in another run (perturb), which gives the derivative of one line alone
(line_derivative) and the slopes that gradients are checked against (slopes).
"""
