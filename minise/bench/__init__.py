"""Benchmarks: minise against its peers, op by op against the machine, and convolution as a lesson.

    machine       which processor, how much memory, which versions
    threads       how many threads a back end and its libraries use
    load          what other processes take of the processors, from /proc/stat
    memory        resident memory and its peak
    figures       medians, ratios, quartiles, and which rounds to trust
    settings      what `minise bench cpu` is asked
    blocks        two blocks of convolutions in groups, built of layers
    works         what is timed: a step, a forward pass, those blocks, the ops of a net
    contestants   who does the work: minise, PyTorch in three ways, NumPy with im2col
    agree         whether contestants compute the same
    child         the process that a contestant lives in
    turns         the parent's side: processes that take turns
    compare       `minise bench cpu` from end to end, and report its tables
    roofline      what the machine can do: matrix products and bandwidth
    profile       `minise profile`: every op beside its floor; profile_report: its tables
    ladder        convolution, from seven loops in Python upwards; ladder_loops, ladder_vectors
    climb         `minise bench conv-ladder`: times the ladder
    scaling       `minise bench scaling`: cost against depth and batch; scaling_report, scaling_plot
    gpu           `minise bench cuda` and .ci/gpu: the CUDA kernels on a GPU

Nothing here is loaded with minise itself.
"""
