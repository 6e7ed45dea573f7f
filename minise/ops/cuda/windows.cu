// Sliding windows over an image: im2col for convolution as a matrix product, and pooling.
//
// Idea. reference/windows.py loops over the offsets of a window; a GPU has enough threads for all
// offsets at once. im2col copies the pixels of every window into a column,
//
//     columns[n, (c, i, j), (p, q)] = x[n, c, p * stride + i * dilation - padding, q * …]
//
// or 0 in the padding, so that a convolution is one matrix product per image,
//
//     out[n] = weight (K, C * KH * KW) @ columns[n]
//
// which cuBLAS computes efficiently. The transpose col2im adds each column to the pixels of its
// window, and pooling's backward adds each window's gradient to its pixels.
//
// With a thread per window, many threads would add to one pixel, in an order that changes from run
// to run. Instead every thread writes one number and gathers its terms: in col2im and in backward a
// thread sums over the windows that contain its pixel.
//
// Bytes. im2col reads x and writes KH * KW times as much, which the product reads again: 9 S each
// for 3 x 3. A convolution that builds its columns in shared memory would save both.
//
// Split of the work. One thread per number; adjacent threads access adjacent memory.

__device__ __forceinline__ long long own_number() {
  return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}

// Returns the window whose offset k is at pixel i, or -1 if there is none:
// window * stride + k * dilation - padding == i.
__device__ __forceinline__ int window_at(
    int i, int k, int stride, int padding, int dilation, int count) {
  const int start = i + padding - k * dilation;
  return start >= 0 && start % stride == 0 && start / stride < count ? start / stride : -1;
}

// The first and the last window that contain pixel i of an axis, for dilation 1.
__device__ __forceinline__ int first_window(int i, int kernel, int stride, int padding) {
  const int start = i + padding - kernel + 1;
  return start <= 0 ? 0 : (start + stride - 1) / stride;
}
__device__ __forceinline__ int last_window(int i, int stride, int padding, int count) {
  return min((i + padding) / stride, count - 1);
}

extern "C" __global__ void __launch_bounds__(256) im2col(
    const real* __restrict__ x, real* __restrict__ columns, long long total, int H, int W, int KH,
    int KW, int SH, int SW, int PH, int PW, int DH, int DW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long plane = own / (KH * KW * OH * OW);  // (n, c)
  const int rest = own - plane * (KH * KW * OH * OW);  // (i, j, p, q)
  const int q = rest % OW, p = rest / OW % OH;
  const int j = rest / (OH * OW) % KW, i = rest / (OH * OW) / KW;
  const int row = p * SH + i * DH - PH, column = q * SW + j * DW - PW;
  const bool inside = row >= 0 && row < H && column >= 0 && column < W;
  columns[own] = inside ? x[(plane * H + row) * W + column] : real(0);
}

extern "C" __global__ void __launch_bounds__(256) col2im(
    const real* __restrict__ columns, real* __restrict__ dx, long long total, int H, int W, int KH,
    int KW, int SH, int SW, int PH, int PW, int DH, int DW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long plane = own / (H * W);
  const int place = own - plane * (H * W), column = place % W, row = place / W;
  real sum = 0;
  for (int i = 0; i < KH; i++) {
    const int p = window_at(row, i, SH, PH, DH, OH);
    if (p < 0) continue;
#pragma unroll 1
    for (int j = 0; j < KW; j++) {
      const int q = window_at(column, j, SW, PW, DW, OW);
      if (q >= 0) sum += columns[(((plane * KH + i) * KW + j) * OH + p) * OW + q];
    }
  }
  dx[own] = sum;
}

// The first of tied maxima wins, and NaN counts as largest; the padding is ignored.
extern "C" __global__ void __launch_bounds__(256) max_pool(
    const real* __restrict__ x, real* __restrict__ out, long long* __restrict__ argmax,
    long long total, int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long plane = own / (OH * OW);
  const int place = own - plane * (OH * OW), q = place % OW, p = place / OW;
  const real* image = x + plane * (H * W);
  real best = 0;
  int winner = -1;
  for (int row = max(p * SH - PH, 0); row < min(p * SH - PH + KH, H); row++) {
    for (int column = max(q * SW - PW, 0); column < min(q * SW - PW + KW, W); column++) {
      const real v = image[row * W + column];
      if (winner < 0 || v > best || (v != v && best == best)) {
        best = v;
        winner = row * W + column;
      }
    }
  }
  out[own] = best;
  argmax[own] = winner;
}

extern "C" __global__ void __launch_bounds__(256) max_pool_backward(
    const real* __restrict__ dout, const long long* __restrict__ argmax, real* __restrict__ dx,
    long long total, int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long plane = own / (H * W);
  const int place = own - plane * (H * W), column = place % W, row = place / W;
  real sum = 0;
  for (int p = first_window(row, KH, SH, PH); p <= last_window(row, SH, PH, OH); p++) {
    for (int q = first_window(column, KW, SW, PW); q <= last_window(column, SW, PW, OW); q++) {
      const long long window = (plane * OH + p) * OW + q;
      if (argmax[window] == place) sum += dout[window];
    }
  }
  dx[own] = sum;
}

// Returns the number of pixels that count in window p of an axis. With pad, padding counts, but not
// positions beyond it.
__device__ __forceinline__ int counted(
    int p, int size, int kernel, int stride, int padding, int pad) {
  const int start = p * stride - padding, frame = pad ? padding : 0;
  return min(start + kernel, size + frame) - max(start, -frame);
}

extern "C" __global__ void __launch_bounds__(256) avg_pool(
    const real* __restrict__ x, real* __restrict__ out, int pad, long long total,
    int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long plane = own / (OH * OW);
  const int place = own - plane * (OH * OW), q = place % OW, p = place / OW;
  const real* image = x + plane * (H * W);
  real sum = 0;
  for (int row = max(p * SH - PH, 0); row < min(p * SH - PH + KH, H); row++) {
    for (int column = max(q * SW - PW, 0); column < min(q * SW - PW + KW, W); column++) {
      sum += image[row * W + column];
    }
  }
  out[own] = sum / (counted(p, H, KH, SH, PH, pad) * counted(q, W, KW, SW, PW, pad));
}

extern "C" __global__ void __launch_bounds__(256) avg_pool_backward(
    const real* __restrict__ dout, real* __restrict__ dx, int pad, long long total,
    int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long plane = own / (H * W);
  const int place = own - plane * (H * W), column = place % W, row = place / W;
  real sum = 0;
  for (int p = first_window(row, KH, SH, PH); p <= last_window(row, SH, PH, OH); p++) {
    const int pixels = counted(p, H, KH, SH, PH, pad);
#pragma unroll 1
    for (int q = first_window(column, KW, SW, PW); q <= last_window(column, SW, PW, OW); q++) {
      sum += dout[(plane * OH + p) * OW + q] / (pixels * counted(q, W, KW, SW, PW, pad));
    }
  }
  dx[own] = sum;
}
