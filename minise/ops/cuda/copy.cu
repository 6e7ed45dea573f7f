// Copies of many arrays by one launch: a training step's backup of the running statistics.
//
// Idea. The running statistics of a net are many small arrays. A copy of each takes a launch, which
// takes longer than the copy. This kernel takes all addresses by value, as sgd.cu does.
//
// Bytes. Reads and writes S numbers: 2 S, the minimum.
//
// Split of the work. As in sgd.cu: a block copies 2048 numbers of one array.

extern "C" __global__ void __launch_bounds__(256) copies(
    const Arrays sources, Arrays targets, Ints sizes, Ints first_blocks, int count) {
  const int k = own_entry(first_blocks, count);
  const int start = (blockIdx.x - first_blocks.at[k]) * NUMBERS;
  const int end = min(sizes.at[k], start + NUMBERS);
  for (int i = start + threadIdx.x; i < end; i += blockDim.x) {
    targets.at[k][i] = sources.at[k][i];
  }
}
