"""Benchmarks: minise beside its peers, op by op beside the machine, and convolution as a lesson.

Shared by all:

    settings      what each benchmark is asked; the command line is built from these classes
    result        what each benchmark returns: tables, JSON and a figure
    machine       processor, versions, load by other processes, peak memory
    rounds        interleaved timing: medians, ratios, and which rounds to trust

The benchmarks:

    compare       `minise bench cpu`: workloads, by minise and by its peers
    scaling       `minise bench scaling`: cost against depth and batch size
    ladder        `minise bench conv-ladder`: convolution, from seven loops in Python upwards
    profile       `minise profile`: every op beside its floor
    gpu           `minise bench cuda` and .ci/gpu: the CUDA kernels on a GPU

What compare and gpu stand on:

    workloads     a training step, a forward pass, blocks of convolutions, the ops of a net
    peers         the implementations: minise, PyTorch in several ways, NumPy with im2col
    worker        the process of an implementation
    gpu_clock     a clock for a GPU, and buffers that no cache holds

ladder_loops holds the loops of the ladder, as plain Python. Nothing here is loaded with minise.
"""
