// Sliding windows over an image: im2col for convolution as a matrix product, and pooling.
//
// Idea. reference/windows.py loops over the offsets of a window; a GPU has enough threads for all
// pixels at once. im2col copies the pixels of every window into a column,
//
//     columns[(c, i, j), (n, p, q)] = x[n, c, p * stride + i * dilation - padding, q * …]
//
// or 0 in the padding, so that a convolution is a matrix product,
//
//     out[n] = weight (K, C * KH * KW) @ columns[:, n]
//
// which cuBLAS computes efficiently. The transpose col2im adds each column to the pixels of its
// window, and pooling's backward adds each window's gradient to its pixels.
//
// With a thread per window, many threads would add to one pixel, in an order that changes from run
// to run. Instead a thread gathers the terms of the numbers that it writes: in col2im and in
// backward it sums over the windows that contain its pixel.
//
// Bytes. im2col reads x and writes KH * KW times as much, which the product reads again: 9 S each
// for 3 x 3. A convolution that builds its columns in shared memory would save both.
//
// Split of the work. Adjacent threads access adjacent memory. A thread of im2col copies KH * KW
// numbers, those of one window in one channel: an integer division takes as long as twenty other
// instructions, and so it needs one division for its window instead of one for each number. Other
// kernels have one thread per number.

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

// x is read from image `first` on; columns hold N images.
extern "C" __global__ void __launch_bounds__(256) im2col(
    const real* __restrict__ x, real* __restrict__ columns, int first, int N, int C, int H, int W,
    int KH, int KW, int SH, int SW, int PH, int PW, int DH, int DW, int OH, int OW) {
  const unsigned own = blockIdx.x * blockDim.x + threadIdx.x;  // (n, p, q)
  const unsigned windows = (unsigned)N * OH * OW;
  if (own >= windows) return;
  const unsigned line = own / OW;  // (n, p)
  const int q = own - line * OW, n = line / OH, p = line - n * OH;
  for (int c = blockIdx.y; c < C; c += gridDim.y) {
    const real* image = x + ((size_t)(first + n) * C + c) * H * W;
    real* column = columns + (size_t)c * KH * KW * windows + own;
    for (int i = 0; i < KH; i++) {
      const int row = p * SH + i * DH - PH;
      const bool in_rows = row >= 0 && row < H;
#pragma unroll 3
      for (int j = 0; j < KW; j++) {
        const int at = q * SW + j * DW - PW;
        *column = in_rows && at >= 0 && at < W ? image[(size_t)row * W + at] : real(0);
        column += windows;
      }
    }
  }
}

// dx is written from image `first` on. plus (null for 0) has dx's shape and is added to it.
extern "C" __global__ void __launch_bounds__(256, 4) col2im(
    const real* __restrict__ columns, const real* __restrict__ plus, real* __restrict__ dx,
    int first, int N, int C, int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int DH,
    int DW, int OH, int OW) {
  const unsigned own = blockIdx.x * blockDim.x + threadIdx.x;  // (n, row, column)
  if (own >= (unsigned)N * H * W) return;
  const unsigned line = own / W;  // (n, row)
  const int at = own - line * W, n = line / H, row = line - n * H;
  for (int c = blockIdx.y; c < C; c += gridDim.y) {
    const size_t pixel = (((size_t)(first + n) * C + c) * H + row) * W + at;
    real sum = 0;
    for (int i = 0; i < KH; i++) {
      const int p = window_at(row, i, SH, PH, DH, OH);
      if (p < 0) continue;
#pragma unroll 1
      for (int j = 0; j < KW; j++) {
        const int q = window_at(at, j, SW, PW, DW, OW);
        const size_t offset = (size_t)c * KH * KW + i * KW + j;
        if (q >= 0) sum += columns[((offset * N + n) * OH + p) * OW + q];
      }
    }
    dx[pixel] = plus ? sum + plus[pixel] : sum;
  }
}

// The first of tied maxima wins, and NaN counts as largest; the padding is ignored.
extern "C" __global__ void __launch_bounds__(256) max_pool(
    const real* __restrict__ x, real* __restrict__ out, long long* __restrict__ argmax,
    long long total, int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long line = own / OW, plane = line / OH;
  const int q = own - line * OW, p = line - plane * OH;
  const real* image = x + plane * H * W;
  real best = 0;
  long long winner = -1;
  for (int row = max(p * SH - PH, 0); row < min(p * SH - PH + KH, H); row++) {
    for (int column = max(q * SW - PW, 0); column < min(q * SW - PW + KW, W); column++) {
      const long long pixel = (long long)row * W + column;
      const real v = image[pixel];
      if (winner < 0 || v > best || (v != v && best == best)) {
        best = v;
        winner = pixel;
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
  const long long line = own / W, plane = line / H;
  const int column = own - line * W, row = line - plane * H;
  real sum = 0;
  for (int p = first_window(row, KH, SH, PH); p <= last_window(row, SH, PH, OH); p++) {
    for (int q = first_window(column, KW, SW, PW); q <= last_window(column, SW, PW, OW); q++) {
      const long long window = (plane * OH + p) * OW + q;
      if (argmax[window] == (long long)row * W + column) sum += dout[window];
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
  const long long line = own / OW, plane = line / OH;
  const int q = own - line * OW, p = line - plane * OH;
  const real* image = x + plane * H * W;
  real sum = 0;
  for (int row = max(p * SH - PH, 0); row < min(p * SH - PH + KH, H); row++) {
    for (int column = max(q * SW - PW, 0); column < min(q * SW - PW + KW, W); column++) {
      sum += image[(long long)row * W + column];
    }
  }
  out[own] = sum / ((long long)counted(p, H, KH, SH, PH, pad) * counted(q, W, KW, SW, PW, pad));
}

extern "C" __global__ void __launch_bounds__(256) avg_pool_backward(
    const real* __restrict__ dout, real* __restrict__ dx, int pad, long long total,
    int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int OH, int OW) {
  const long long own = own_number();
  if (own >= total) return;
  const long long line = own / W, plane = line / H;
  const int column = own - line * W, row = line - plane * H;
  real sum = 0;
  for (int p = first_window(row, KH, SH, PH); p <= last_window(row, SH, PH, OH); p++) {
    const long long pixels = counted(p, H, KH, SH, PH, pad);
#pragma unroll 1
    for (int q = first_window(column, KW, SW, PW); q <= last_window(column, SW, PW, OW); q++) {
      sum += dout[(plane * OH + p) * OW + q] / (pixels * counted(q, W, KW, SW, PW, pad));
    }
  }
  dx[own] = sum;
}
