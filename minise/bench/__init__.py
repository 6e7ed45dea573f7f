"""Benchmarks: minise against its peers, ops against a roofline, and convolution step by step.

Shared by all benchmarks:

    settings      options of each benchmark; the command line is built from these classes
    result        the result of a benchmark: tables, JSON and a figure
    machine       processor, versions, load by other processes, peak memory
    rounds        interleaved timing: medians, ratios, and which rounds are reliable

The benchmarks:

    compare       `minise bench cpu`: workloads, timed in minise and in its peers
    overhead      `minise bench se-overhead`: a net with SE blocks against the net without them
    scaling       `minise bench scaling`: time of a training step against depth and batch size
    ladder        `minise bench conv-ladder`: one convolution, from seven Python loops to Winograd
    profile       `minise profile`: time of every op against a roofline
    gpu           `minise bench cuda` and .ci/gpu: the CUDA kernels on a GPU

Shared by compare, overhead and gpu:

    workloads     a training step, a forward pass, blocks of convolutions, the ops of a net
    peers         the implementations: minise, PyTorch in several modes, NumPy with im2col
    worker        one process per implementation
    gpu_clock     timing on a GPU, with buffers that exceed its cache

ladder_loops holds the loops of the ladder, as plain Python. `import minise` loads none of these
modules. README.md lists the committed measurements and the command of each.
"""
