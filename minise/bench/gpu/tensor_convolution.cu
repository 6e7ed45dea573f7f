// Convolution 3 x 3, stride 1, on tensor cores, without im2col.
//
// Idea. out[n, k] = sum over c, i, j of weight[k, c, i, j] * x[n, c, p + i - 1, q + j - 1]. For one
// offset (i, j) this is a matrix product, weight[:, :, i, j] (K x C) @ x (C x pixels), and the nine
// offsets read the same pixels, shifted. So a block keeps TILE_ROWS rows of an image, padded by one
// pixel, in shared memory and computes nine products from there: x is read from memory once.
//
// A tensor core multiplies a 16 x 8 by an 8 x 8 matrix for a whole warp. The hardware fixes which
// lane holds which element (PTX ISA, "mma.m16n8k8 with .tf32"); with group = lane / 4,
// own = lane % 4:
//
//     a (16 x 8, weights)   a[r] is row group + 8 * (r % 2), column own + 4 * (r / 2)
//     b (8 x 8, pixels)     b[r] is row own + 4 * r, column group
//     d (16 x 8, sums)      d[r] is row group + 8 * (r / 2), column 2 * own + r % 2
//
// Rows are output channels, the inner index is an input channel, columns are 8 adjacent pixels.
// So a lane reads b from shared memory at own * PLANE + group: 32 different banks, as PLANE modulo
// 32 is 8 or 24. Weights are stored in the order in which the lanes read them (arrange_weights).
//
// Numbers are rounded to TF32 (10 mantissa bits) when they are stored in shared memory; sums are
// float. The mean and the centred squares of a block's output are computed while the output is
// still in registers: batch norm needs no separate pass. With a scale, batch norm and ReLU are
// first applied to x, so that a normalised convolution is never written to memory.
//
// Bytes. Reads x (1 + 2 / TILE_ROWS) times, writes out: slightly more than 2 S.
//
// Split of the work. A block computes KB output channels of TILE_ROWS rows, from CHUNK channels at
// a time; several blocks share a multiprocessor, so that one loads while another multiplies. A warp
// computes all KB channels of OWN groups of 8 pixels.

constexpr int C = CHANNELS_IN, K = CHANNELS_OUT, H = HEIGHT, W = WIDTH;  // macros of this build
constexpr int WARPS = 4, THREADS = WARPS * WARP;
constexpr int PITCH = W + 8;  // of a row in shared memory; its padding is at 3 and W + 4
constexpr int PLANE = ((TILE_ROWS + 2) * PITCH + 15) / 16 * 16 + 8;  // 8 or 24 modulo 32
constexpr int PIXELS = TILE_ROWS * W, BANDS = KB / 16, BLOCKS = CHUNK / 8;
constexpr int OWN = (PIXELS / 8 + WARPS - 1) / WARPS;
constexpr int WEIGHTS = 9 * CHUNK * KB;
static_assert(W % 4 == 0 && PIXELS % 8 == 0 && H % TILE_ROWS == 0, "tiles of whole rows");
static_assert(KB % 16 == 0 && K % KB == 0 && CHUNK % 8 == 0 && C % CHUNK == 0, "whole fragments");

// Round to 10 mantissa bits, half away from zero: the hardware ignores the 13 lower bits.
__device__ __forceinline__ float to_tf32(float v) {
  return __uint_as_float((__float_as_uint(v) + 0x1000u) & 0xffffe000u);
}

#ifdef __CUDA_ARCH__
__device__ __forceinline__ void multiply_add(
    float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
#elif !defined(__CUDACC__) && !defined(__CUDACC_RTC__)
#define multiply_add(d, a, b) emulator::multiply_add(d, a, b, __LINE__)
#else
__device__ void multiply_add(float (&d)[4], const float (&a)[4], const float (&b)[2]);
#endif

// Store weight (K, C, 3, 3) in the order of the lanes. For the gradient of x, backward is 1: the
// same convolution with channels exchanged (weight is (C, K, 3, 3)) and both axes reversed.
extern "C" __global__ void __launch_bounds__(256) arrange_weights(
    const real* __restrict__ weight, real* __restrict__ arranged, int backward, int total) {
  const int own = blockIdx.x * blockDim.x + threadIdx.x;
  if (own >= total) return;
  const int r = own % 4, lane = own / 4 % 32, band = own / 128 % BANDS;
  const int rest = own / (128 * BANDS), block = rest % BLOCKS, tap = rest / BLOCKS % 9;
  const int chunk = rest / (BLOCKS * 9) % (C / CHUNK), part = rest / (BLOCKS * 9) / (C / CHUNK);
  const int k = part * KB + band * 16 + lane / 4 + 8 * (r % 2);
  const int c = chunk * CHUNK + block * 8 + lane % 4 + 4 * (r / 2);
  const int at = backward ? (c * K + k) * 9 + 8 - tap : (k * C + c) * 9 + tap;
  arranged[own] = to_tf32(weight[at]);
}

extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) conv3x3(
    const real* __restrict__ x, const real* __restrict__ arranged, const real* __restrict__ scale,
    const real* __restrict__ shift, real* __restrict__ out, double* __restrict__ part_mean,
    double* __restrict__ part_m2) {
  extern __shared__ __align__(16) real shared[];  // weights, padded x, sums of the warps
  real *weights = shared, *tile = weights + WEIGHTS, *sums = tile + CHUNK * PLANE;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, group = lane / 4, own = lane % 4;
  const int first = blockIdx.x * TILE_ROWS, part = blockIdx.y, n = blockIdx.z;

  for (int i = threadIdx.x; i < CHUNK * (TILE_ROWS + 2); i += THREADS) {  // padding left and right
    real* row = tile + i / (TILE_ROWS + 2) * PLANE + i % (TILE_ROWS + 2) * PITCH;
    row[3] = row[W + 4] = 0;
  }

  int index[OWN];  // of a lane's pixels in a plane of the tile
#pragma unroll
  for (int o = 0; o < OWN; o++) {
    const int pixel = min((warp * OWN + o) * 8 + group, PIXELS - 1);
    index[o] = own * PLANE + pixel / W * PITCH + pixel % W + 3;
  }

  float sum[BANDS][OWN][4] = {};
  for (int chunk = 0; chunk < C / CHUNK; chunk++) {
    if (chunk > 0) __syncthreads();  // all warps have used the previous chunk
    const real* from = arranged + (size_t)(part * (C / CHUNK) + chunk) * WEIGHTS;
#pragma unroll 4
    for (int i = threadIdx.x * 4; i < WEIGHTS; i += THREADS * 4) {
      store<4>(weights + i, load<4>(from + i));
    }
    constexpr int QUADS = W / 4;
#pragma unroll 4
    for (int i = threadIdx.x; i < CHUNK * (TILE_ROWS + 2) * QUADS; i += THREADS) {
      const int column = i % QUADS * 4, line = i / QUADS;
      const int row = line % (TILE_ROWS + 2), c = line / (TILE_ROWS + 2);
      const int y = first + row - 1, channel = chunk * CHUNK + c;
      Chunk<4> pixels = {};
      if (y >= 0 && y < H) {
        pixels = load<4>(x + (((size_t)n * C + channel) * H + y) * W + column);
#pragma unroll
        for (int k = 0; k < 4; k++) {
          float v = pixels.at[k];
          if (NORMALISE) v = relu(v * scale[channel] + shift[channel]);
          pixels.at[k] = to_tf32(v);
        }
      }
      store<4>(tile + c * PLANE + row * PITCH + 4 + column, pixels);
    }
    __syncthreads();  // weights and tile are complete
#pragma unroll
    for (int tap = 0; tap < 9; tap++) {
#pragma unroll
      for (int block = 0; block < BLOCKS; block++) {
        float a[BANDS][4];
#pragma unroll
        for (int band = 0; band < BANDS; band++) {
          const int fragment = (tap * BLOCKS + block) * BANDS + band;
          const Chunk<4> held = load<4>(weights + (fragment * WARP + lane) * 4);
#pragma unroll
          for (int r = 0; r < 4; r++) a[band][r] = held.at[r];
        }
        const real* shifted = tile + block * 8 * PLANE + tap / 3 * PITCH + tap % 3;
#pragma unroll
        for (int o = 0; o < OWN; o++) {
          const float b[2] = {shifted[index[o]], shifted[index[o] + 4 * PLANE]};
#pragma unroll
          for (int band = 0; band < BANDS; band++) multiply_add(sum[band][o], a[band], b);
        }
      }
    }
  }

  // Write out, and sum over the pixels of each channel.
  real* image = out + (((size_t)n * K + part * KB) * H + first) * W;
#pragma unroll
  for (int band = 0; band < BANDS; band++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int k = band * 16 + half * 8 + group;
      real total = 0;
#pragma unroll
      for (int o = 0; o < OWN; o++) {
        const int pixel = (warp * OWN + o) * 8 + own * 2;
        if (pixel >= PIXELS) continue;
        const Chunk<2> two = {sum[band][o][2 * half], sum[band][o][2 * half + 1]};
        store<2>(image + (size_t)k * (H * W) + pixel, two);
        total += two.at[0] + two.at[1];
      }
      total = sum_of_lanes(total, 4);
      if (own == 0) sums[warp * KB + k] = total;
    }
  }
  __syncthreads();  // the sums of all warps are stored
#pragma unroll
  for (int band = 0; band < BANDS; band++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int k = band * 16 + half * 8 + group;
      real total = 0, squares = 0;
      for (int w = 0; w < WARPS; w++) total += sums[w * KB + k];
      const real mean = total / PIXELS;
#pragma unroll
      for (int o = 0; o < OWN; o++) {
        if ((warp * OWN + o) * 8 >= PIXELS) continue;
        const real left = sum[band][o][2 * half] - mean, right = sum[band][o][2 * half + 1] - mean;
        squares += left * left + right * right;
      }
      squares = sum_of_lanes(squares, 4);
      if (own == 0) sums[(WARPS + warp) * KB + k] = squares;
    }
  }
  __syncthreads();  // the squares of all warps are stored
  for (int k = threadIdx.x; k < KB; k += THREADS) {
    double total = 0, squares = 0;
    for (int w = 0; w < WARPS; w++) {
      total += sums[w * KB + k];
      squares += sums[(WARPS + w) * KB + k];
    }
    const size_t index = ((size_t)n * gridDim.x + blockIdx.x) * K + part * KB + k;
    part_mean[index] = total / PIXELS;
    part_m2[index] = squares;
  }
}
