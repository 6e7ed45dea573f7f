"""The CUDA kernels on a GPU, against PyTorch and against the memory bandwidth.

compare             `minise bench cuda`: ops and training steps, with lower bounds and errors
__main__            the commands of `.ci/gpu`
probes              checks of typical failures on a new GPU
baselines           speed of the GPU and of PyTorch: rates, convolutions, training steps
tensor_convolution  a prototype of a convolution on tensor cores
"""
