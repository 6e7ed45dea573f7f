"""The CUDA kernels on a GPU, beside PyTorch's and beside what the memory allows.

compare             `minise bench cuda`: ops and training steps, with their floors and errors
__main__            what `.ci/gpu` runs, one task after the other
probes              what may go wrong on a first day, and whether it does
baselines           what the GPU and PyTorch reach: rates, convolutions, steps
tensor_convolution  a prototype of a convolution on tensor cores
"""
