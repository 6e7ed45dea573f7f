"""Record and perturb every intermediate of a function, and check gradients against perturbations.

A run of a function, an op or a whole net is recorded line by line: each value, the line that
computed it and the arrays that the line read (instrument, recorder, subject, leaves, source). A
later run can perturb any of these values (perturb): this gives the derivative of a single line
(line_derivative) and the slopes against which gradients are checked (slopes). A run can also be
recorded as a list of NumPy operations (tape, taped, taped_functions, namespaces), which can be
evaluated for other inputs without the code.
"""
