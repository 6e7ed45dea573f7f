"""The kernels on a GPU, beside PyTorch and beside what the memory allows.

`minise bench cuda`:

settings    what is asked
works       the shapes, and the bytes that each way of doing them moves
clock       how a GPU is timed: events, graphs, and buffers that no cache holds
ours        minise's ways: one op, or a training step
peers       PyTorch's ways: eager, eager in a graph, compiled
measure     everything in order, within a time limit
report      the tables, and the same figures as JSON

`.ci/gpu`, a first day on a GPU, by __main__:

tasks       measurements one by one, written as JSON at once
probes      what may go wrong, and whether it does
baselines   what the GPU and PyTorch reach: rates, convolutions, whole steps
tensor_convolution      a prototype of a convolution on tensor cores
summaries   what profilers and runs have logged
"""
