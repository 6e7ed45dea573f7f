// One step of SGD with momentum, for one parameter, in place: reference/arrays.py's sgd_update.
//
// Idea. The NumPy code is
//
//     g        = grad + weight_decay * param
//     velocity = momentum * velocity + g
//     param   -= rate * (g + momentum * velocity if nesterov else velocity)
//
// where every operation passes over memory. This kernel makes a single pass.
//
// Bytes. Reads param, grad and velocity, writes param and velocity: 5 S for a parameter of S
// numbers, the minimum.
//
// Split of the work. One thread per number.

extern "C" __global__ void __launch_bounds__(256) sgd_update(
    real* __restrict__ param, const real* __restrict__ grad, real* __restrict__ velocity, real rate,
    real momentum, int nesterov, real weight_decay, long long total) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= total) return;
  const real g = grad[i] + weight_decay * param[i];
  const real v = momentum * velocity[i] + g;
  velocity[i] = v;
  param[i] -= rate * (nesterov ? g + momentum * v : v);
}
