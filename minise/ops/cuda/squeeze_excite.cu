// Squeeze-and-excitation in seven simple kernels, each for one line of NumPy.
//
// Idea. Forward and backward of reference/squeeze_excite.py are
//
//     z  = x.mean(axis=(2, 3))                            squeeze
//     h  = max(z @ w1.T + b1, 0)                          excite
//     s  = gate(h @ w2.T + b2)
//     out = x * s                                         scale
//
//     dv = (dout * x).sum(axis=(2, 3)) * gate'            gate_gradient
//     du = (dv @ w2) where h > 0;  dz = du @ w1           excite_backward
//     dx = dout * s + dz / (H * W)                        input_gradient
//     dw2, db2 = dv.T @ h, dv.sum(axis=0)                 weight_gradient
//     dw1, db1 = du.T @ z, du.sum(axis=0)                 weight_gradient
//
// Bytes. Only the arrays of S = N * C * H * W numbers matter: x, dout, out, dx. Forward: squeeze
// reads x, scale reads x and writes out, 3 S. Backward: gate_gradient reads dout and x,
// input_gradient reads dout and writes dx, 4 S. The minimum is 2 S and 3 S: x and dout are read
// twice, because the sum over a channel must be complete before its first pixel can be scaled.
// squeeze_excite_tile.cu keeps an image on the chip and reads each pixel once.
//
// Split of the work. One warp per row, a channel of an image: each lane reads and sums adjacent
// chunks of 16 bytes, then the warp adds the sums of its lanes. A block has eight independent
// warps. The dense layers are small: one block per image, with its vectors in shared memory. A
// weight gradient is a sum over images: see weight_gradient.

template <int P> __device__ void squeeze_row(const real* x, real* z, int hw) {
  real sum = 0;
#pragma unroll 4
  for (int i = own_lane() * P; i < hw; i += WARP * P) {
    const Chunk<P> pixels = load<P>(x + i);
#pragma unroll
    for (int k = 0; k < P; k++) sum += pixels.at[k];
  }
  sum = sum_of_lanes(sum);
  if (own_lane() == 0) *z = sum / hw;
}

extern "C" __global__ void __launch_bounds__(256) squeeze(
    const real* __restrict__ x, real* __restrict__ z, int rows, int hw) {
  const int row = own_row();
  if (row >= rows) return;  // whole warps return, so that no shuffle waits for missing lanes
  const real* image = x + (size_t)row * hw;
  if (hw % PACK == 0) squeeze_row<PACK>(image, z + row, hw);
  else squeeze_row<1>(image, z + row, hw);
}

extern "C" __global__ void __launch_bounds__(256, 4) excite(
    const real* __restrict__ z, const real* __restrict__ w1, const real* __restrict__ b1,
    const real* __restrict__ w2, const real* __restrict__ b2, real* __restrict__ h,
    real* __restrict__ s, int gate, int C, int R) {
  extern __shared__ real shared[];  // z and s (C each), h (R) of image n
  real *zs = shared, *ss = zs + C, *hs = ss + C;
  const size_t n = blockIdx.x;
  for (int c = threadIdx.x; c < C; c += blockDim.x) zs[c] = z[n * C + c];
  __syncthreads();  // z is complete
  excite_image({w1, b1, w2, b2, gate, C, R}, zs, hs, ss, h + n * R, s + n * C);
}

template <int P> __device__ void affine_row(
    const real* from, real* to, real scale, real shift, int hw) {
#pragma unroll 4
  for (int i = own_lane() * P; i < hw; i += WARP * P) {
    Chunk<P> pixels = load<P>(from + i);
#pragma unroll
    for (int k = 0; k < P; k++) pixels.at[k] = pixels.at[k] * scale + shift;
    store<P>(to + i, pixels);
  }
}

extern "C" __global__ void __launch_bounds__(256) scale(
    const real* __restrict__ x, const real* __restrict__ s, real* __restrict__ out, int rows,
    int hw) {
  const int row = own_row();
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  if (hw % PACK == 0) affine_row<PACK>(x + start, out + start, s[row], 0, hw);
  else affine_row<1>(x + start, out + start, s[row], 0, hw);
}

template <int P> __device__ real dot_row(const real* a, const real* b, int hw) {
  real sum = 0;
#pragma unroll 4
  for (int i = own_lane() * P; i < hw; i += WARP * P) {
    const Chunk<P> left = load<P>(a + i), right = load<P>(b + i);
#pragma unroll
    for (int k = 0; k < P; k++) sum += left.at[k] * right.at[k];
  }
  return sum_of_lanes(sum);
}

extern "C" __global__ void __launch_bounds__(256) gate_gradient(
    const real* __restrict__ dout, const real* __restrict__ x, const real* __restrict__ s,
    real* __restrict__ dv, int gate, int rows, int hw) {
  const int row = own_row();
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  const real ds = hw % PACK == 0 ? dot_row<PACK>(dout + start, x + start, hw)
                                 : dot_row<1>(dout + start, x + start, hw);
  if (own_lane() == 0) dv[row] = gate_backward(ds, s[row], gate);
}

extern "C" __global__ void __launch_bounds__(256) excite_backward(
    const real* __restrict__ dv, const real* __restrict__ h, const real* __restrict__ w1,
    const real* __restrict__ w2, real* __restrict__ du, real* __restrict__ dz, int C, int R) {
  extern __shared__ real shared[];  // dv (C), du (R) of image n
  real *dvs = shared, *dus = dvs + C;
  const size_t n = blockIdx.x;
  for (int c = threadIdx.x; c < C; c += blockDim.x) dvs[c] = dv[n * C + c];
  __syncthreads();  // dv is complete
  const Excite net = {w1, nullptr, w2, nullptr, 0, C, R};
  excite_image_backward(net, dvs, h + n * R, dus, dz + n * C, du + n * R);
}

extern "C" __global__ void __launch_bounds__(256) input_gradient(
    const real* __restrict__ dout, const real* __restrict__ s, const real* __restrict__ dz,
    real* __restrict__ dx, int rows, int hw) {
  const int row = own_row();
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  const real share = dz[row] / hw;  // each pixel contributes 1 / hw to the mean
  if (hw % PACK == 0) affine_row<PACK>(dout + start, dx + start, s[row], share, hw);
  else affine_row<1>(dout + start, dx + start, s[row], share, hw);
}

// dweight[k, c] = sum over n of dout[n, k] * x[n, c] and dbias[k] = sum over n of dout[n, k], for
// either dense layer. A block computes 4 rows k and 32 columns c of dweight. Each of its 8 warps
// sums every eighth image; the partial sums are in shared memory and are added in warp order.
extern "C" __global__ void __launch_bounds__(256) weight_gradient(
    const real* __restrict__ dout, const real* __restrict__ x, real* __restrict__ dweight,
    real* __restrict__ dbias, int N, int K, int C) {
  constexpr int WARPS = 8, ROWS = 4;
  __shared__ real found[WARPS][ROWS][WARP];
  __shared__ real found_bias[WARPS][ROWS];
  const int lane = own_lane(), warp = threadIdx.x / WARP;
  const int c = blockIdx.x * WARP + lane, first = blockIdx.y * ROWS;
  real sum[ROWS] = {}, bias[ROWS] = {};
  for (int n = warp; n < N; n += WARPS) {
    const real column = c < C ? x[(size_t)n * C + c] : real(0);
#pragma unroll
    for (int k = 0; k < ROWS; k++) {
      if (first + k >= K) continue;
      const real row = dout[(size_t)n * K + first + k];
      sum[k] += row * column;
      bias[k] += row;
    }
  }
#pragma unroll
  for (int k = 0; k < ROWS; k++) {
    found[warp][k][lane] = sum[k];
    if (lane == 0) found_bias[warp][k] = bias[k];
  }
  __syncthreads();  // all partial sums are complete
  const int k = warp;
  if (k >= ROWS || first + k >= K) return;
  real total = 0, total_bias = 0;
  for (int w = 0; w < WARPS; w++) {
    total += found[w][k][lane];
    total_bias += found_bias[w][k];
  }
  if (c < C) dweight[(size_t)(first + k) * C + c] = total;
  if (c == 0) dbias[first + k] = total_bias;
}
