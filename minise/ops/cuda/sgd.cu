// One step of SGD with momentum, for many parameters, in place: reference/arrays.py's sgd_update.
//
// Idea. The NumPy code is
//
//     g        = grad + weight_decay * param
//     velocity = momentum * velocity + g
//     param   -= rate * (g + momentum * velocity if nesterov else velocity)
//
// where every operation passes over memory, for one parameter after the other. This kernel makes a
// single pass over all parameters of a net. It takes their addresses by value, so that nothing is
// copied to the GPU before it runs.
//
// Bytes. Reads param, grad and velocity, writes param and velocity: 5 S for S numbers, the minimum.
//
// Split of the work. A block updates 2048 numbers of one parameter, which it finds in the table of
// each parameter's first block.

struct Step {
  real rate, momentum, decay;
  int nesterov;
};

template <int P> __device__ void update(
    real* param, const real* grad, real* velocity, const Step& step, int count) {
  for (int i = threadIdx.x * P; i < count; i += blockDim.x * P) {
    Chunk<P> values = load<P>(param + i), velocities = load<P>(velocity + i);
    const Chunk<P> grads = load<P>(grad + i);
#pragma unroll
    for (int k = 0; k < P; k++) {
      const real g = grads.at[k] + step.decay * values.at[k];
      const real v = step.momentum * velocities.at[k] + g;
      velocities.at[k] = v;
      values.at[k] -= step.rate * (step.nesterov ? g + step.momentum * v : v);
    }
    store<P>(velocity + i, velocities);
    store<P>(param + i, values);
  }
}

extern "C" __global__ void __launch_bounds__(256) sgd_updates(
    Arrays params, const Arrays grads, Arrays velocities, Ints sizes, Ints first_blocks,
    Reals weight_decays, real rate, real momentum, int nesterov, int count) {
  const int k = own_entry(first_blocks, count);
  const int start = (blockIdx.x - first_blocks.at[k]) * NUMBERS, size = sizes.at[k];
  const int own = min(size - start, NUMBERS);
  real *param = params.at[k] + start, *velocity = velocities.at[k] + start;
  const real* grad = grads.at[k] + start;
  const Step step = {rate, momentum, weight_decays.at[k], nesterov};
  if (size % PACK == 0) update<PACK>(param, grad, velocity, step, own);
  else update<1>(param, grad, velocity, step, own);
}
