// Squeeze-and-excitation in simple kernels, each for one line of NumPy.
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
//     dw2, db2 = dv.T @ h, dv.sum(axis=0)                 weight_gradients
//     dw1, db1 = du.T @ z, du.sum(axis=0)                 weight_gradients
//
// Bytes. Only the arrays of S = N * C * H * W numbers matter: x, dout, out, dx. Forward: squeeze
// reads x, scale reads x and writes out, 3 S. Backward: gate_gradient reads dout and x,
// input_gradient reads dout and writes dx, 4 S. The minimum is 2 S and 3 S: x and dout are read
// twice, because the sum over a channel must be complete before its first pixel can be scaled.
// squeeze_excite_tile.cu keeps an image on the chip and reads each pixel once.
//
// Split of the work. One warp per row, a channel of an image, or for four rows of 7 x 7 pixels: each
// lane reads and sums chunks of 16 bytes, then the warp adds the sums of its lanes. A block has
// eight independent warps. A weight gradient is a sum over images: see weight_gradients.
//
// Small dense layers, such as those of CIFAR nets, are one launch: excite has one block per image,
// with its vectors in shared memory. Each block reads both weights, from the L2 cache: with 256
// threads about 7 bytes a clock, so that 32 KB take 3 us and ResNet-50's last weights, 2.1 MB,
// would take 170 us. So large layers (gating.py) are two launches of dense or dense_transposed: a
// block has a few rows or columns of one weight, and reads them once for 8 images. At C = 2048,
// R = 128 and 64 images 128 and 2048 blocks read 8.4 MB each; 3 us per launch are expected.
// None of these times is measured.

template <int P, int ROWS> __device__ real sum_of_pixels(
    Split<P, ROWS>, const real* x, const real* factor, int hw) {
  real sums[ROWS] = {};
#pragma unroll 4
  for (int i = own_lane() * P; i < ROWS * hw; i += WARP * P) {
    Chunk<P> pixels = load<P>(x + i);
    if (factor) {
      const Chunk<P> factors = load<P>(factor + i);
#pragma unroll
      for (int k = 0; k < P; k++) pixels.at[k] *= factors.at[k];
    }
    add_to_rows(sums, pixels, i, hw);
  }
  return sum_of_rows(sums);
}

extern "C" __global__ void __launch_bounds__(256) squeeze(
    const real* __restrict__ x, real* __restrict__ z, int group, int rows, int hw) {
  const int row = own_warp() * group, lanes = WARP / group;
  if (row >= rows) return;  // whole warps return, so that no shuffle waits for missing lanes
  const real* pixels = x + (size_t)row * hw;
  real sum = 0;
  with_split(group, hw, [&](auto split) { sum = sum_of_pixels(split, pixels, nullptr, hw); });
  if (own_lane() % lanes == 0) z[row + own_lane() / lanes] = sum / hw;
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

struct Affine {  // out = x * scale + shift
  real scale, shift;
};

template <int P, int ROWS, class AffineOf> __device__ void affine_rows(
    Split<P, ROWS> split, const real* from, real* to, int hw, AffineOf affine_of) {
  map_rows<4>(split, hw, affine_of, [&](int i, Affine first, Affine last, int rest) {
    Chunk<P> pixels = load<P>(from + i);
#pragma unroll
    for (int k = 0; k < P; k++) {
      const Affine map = k < rest ? first : last;
      pixels.at[k] = pixels.at[k] * map.scale + map.shift;
    }
    store<P>(to + i, pixels);
  });
}

extern "C" __global__ void __launch_bounds__(256) scale(
    const real* __restrict__ x, const real* __restrict__ s, real* __restrict__ out, int group,
    int rows, int hw) {
  const int row = own_warp() * group;
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  with_split(group, hw, [&](auto split) {
    affine_rows(split, x + start, out + start, hw, [&](int q) { return Affine{s[row + q], 0}; });
  });
}

extern "C" __global__ void __launch_bounds__(256) gate_gradient(
    const real* __restrict__ dout, const real* __restrict__ x, const real* __restrict__ s,
    real* __restrict__ dv, int gate, int group, int rows, int hw) {
  const int row = own_warp() * group, lanes = WARP / group;
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  real ds = 0;
  with_split(group, hw, [&](auto split) {
    ds = sum_of_pixels(split, x + start, dout + start, hw);
  });
  const int own = row + own_lane() / lanes;
  if (own_lane() % lanes == 0) dv[own] = gate_backward(ds, s[own], gate);
}

extern "C" __global__ void __launch_bounds__(256) excite_backward(
    const real* __restrict__ dv, const real* __restrict__ h, const real* __restrict__ w1,
    const real* __restrict__ w2, real* __restrict__ du, real* __restrict__ dz, int C, int R) {
  extern __shared__ real shared[];  // dv (C), du (R) of image n, partial (8 R)
  real *dvs = shared, *dus = dvs + C, *partial = dus + R;
  const size_t n = blockIdx.x;
  for (int c = threadIdx.x; c < C; c += blockDim.x) dvs[c] = dv[n * C + c];
  __syncthreads();  // dv is complete
  const Excite net = {w1, nullptr, w2, nullptr, 0, C, R};
  excite_image_backward(net, dvs, h + n * R, partial, dus, dz + n * C, du + n * R);
}

constexpr int WARPS = 8;  // of a block
constexpr int IMAGES = 8;  // that share each element of a weight
constexpr int SUMS = WARPS * IMAGES * WARP;

// out[n, j] = gate(sum over k of w[j, k] * x[n, k] + b[j]); b may be null.
extern "C" __global__ void __launch_bounds__(256, 4) dense_layer(
    const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
    real* __restrict__ out, int gate, int N, int J, int K) {
  const size_t n = (size_t)blockIdx.y * IMAGES;
  const int images = min(N - (int)n, IMAGES);
  dense<IMAGES>(w, x + n * K, J, K, images, blockIdx.x, gridDim.x, [&](int m, int j, real sum) {
    out[(n + m) * J + j] = gate_forward(sum + (b ? b[j] : real(0)), gate);
  });
}

// dx[n, k] = sum over j of dout[n, j] * w[j, k], or 0 where h[n, k] is; h may be null. A block has
// 32 columns k.
extern "C" __global__ void __launch_bounds__(256, 4) dense_layer_backward(
    const real* __restrict__ dout, const real* __restrict__ w, const real* __restrict__ h,
    real* __restrict__ dx, int N, int J, int K) {
  __shared__ real partial[SUMS];
  const size_t n = (size_t)blockIdx.y * IMAGES;
  const int images = min(N - (int)n, IMAGES), begin = blockIdx.x * WARP;
  dense_transposed<IMAGES>(w, dout + n * J, partial, J, K, begin, min(K - begin, WARP), images,
      [&](int m, int k, real sum) {
        const size_t i = (n + m) * K + k;
        dx[i] = h && h[i] <= 0 ? real(0) : sum;
      });
}

extern "C" __global__ void __launch_bounds__(256) input_gradient(
    const real* __restrict__ dout, const real* __restrict__ s, const real* __restrict__ dz,
    real* __restrict__ dx, int group, int rows, int hw) {
  const int row = own_warp() * group;
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  with_split(group, hw, [&](auto split) {
    affine_rows(split, dout + start, dx + start, hw, [&](int q) {
      return Affine{s[row + q], dz[row + q] / hw};  // each pixel contributes 1 / hw to the mean
    });
  });
}

// dw1 = du.T @ z (R, C), dw2 = dv.T @ h (C, R), and the biases' gradients, sums of du and dv over
// the images. A block computes 4 rows and 32 columns of one of them; those of dw1 come first. Each
// of its 8 warps sums every eighth image; the partial sums are in shared memory and are added in
// warp order.
extern "C" __global__ void __launch_bounds__(256) weight_gradients(
    const real* __restrict__ du, const real* __restrict__ z, const real* __restrict__ dv,
    const real* __restrict__ h, real* __restrict__ dw1, real* __restrict__ db1,
    real* __restrict__ dw2, real* __restrict__ db2, int N, int C, int R) {
  constexpr int ROWS = 4;
  __shared__ real partial[WARPS][ROWS][WARP];
  __shared__ real partial_bias[WARPS][ROWS];
  const int blocks = (C + WARP - 1) / WARP * ((R + ROWS - 1) / ROWS);  // of dw1
  const bool second = blockIdx.x >= blocks;
  const int block = second ? blockIdx.x - blocks : blockIdx.x;
  const int K = second ? C : R, L = second ? R : C;  // the gradient's sizes
  const real *dout = second ? dv : du, *x = second ? h : z;
  real *dweight = second ? dw2 : dw1, *dbias = second ? db2 : db1;
  const int across = (L + WARP - 1) / WARP, lane = own_lane(), warp = threadIdx.x / WARP;
  const int column = block % across * WARP + lane, first = block / across * ROWS;
  real sum[ROWS] = {}, bias[ROWS] = {};
  for (int n = warp; n < N; n += WARPS) {
    const real right = column < L ? x[(size_t)n * L + column] : real(0);
#pragma unroll
    for (int k = 0; k < ROWS; k++) {
      if (first + k >= K) continue;
      const real left = dout[(size_t)n * K + first + k];
      sum[k] += left * right;
      bias[k] += left;
    }
  }
#pragma unroll
  for (int k = 0; k < ROWS; k++) {
    partial[warp][k][lane] = sum[k];
    if (lane == 0) partial_bias[warp][k] = bias[k];
  }
  __syncthreads();  // all partial sums are complete
  const int k = warp;
  if (k >= ROWS || first + k >= K) return;
  real total = 0, total_bias = 0;
  for (int w = 0; w < WARPS; w++) {
    total += partial[w][k][lane];
    total_bias += partial_bias[w][k];
  }
  if (column < L) dweight[(size_t)(first + k) * L + column] = total;
  if (column == 0) dbias[first + k] = total_bias;
}
