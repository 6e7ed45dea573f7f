// Device functions of all kernels. The launcher prepends this file to every source.
//
// An array (N, C, H, W) is N * C contiguous rows of hw = H * W numbers. Threads run in warps of 32,
// whose lanes can read each other's registers. The GPU transfers memory in sectors of 32 bytes, and
// bandwidth is highest when a warp reads 512 adjacent bytes at once: 32 lanes, 16 bytes each. A
// Chunk is what one lane reads: P numbers of one row. If hw is a multiple of PACK, rows are aligned
// to 16 bytes and P = PACK; otherwise (7 x 7) the same code runs with P = 1.
//
// Every sum has a fixed order and every number is written by a single thread, without atomic
// additions, so the same inputs give the same bits.

typedef REAL real;  // float or double: each source is compiled for either
constexpr int PACK = 16 / sizeof(real);  // numbers in 16 bytes
constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

template <int P> struct __align__(P * sizeof(real)) Chunk { real at[P]; };

template <int P> __device__ __forceinline__ Chunk<P> load(const real* p) {
  return *static_cast<const Chunk<P>*>(__builtin_assume_aligned(p, sizeof(Chunk<P>)));
}

template <int P> __device__ __forceinline__ void store(real* p, const Chunk<P>& chunk) {
  *static_cast<Chunk<P>*>(__builtin_assume_aligned(p, sizeof(Chunk<P>))) = chunk;
}

// Returns to each lane the sum over its group of `lanes` adjacent lanes, a power of two. In each
// round a lane adds the value of a partner: first the lane half a group away, last its neighbour.
// All 32 lanes of the warp must call it together.
template <class T> __device__ __forceinline__ T sum_of_lanes(T value, int lanes = WARP) {
  for (int away = lanes / 2; away > 0; away /= 2) value += __shfl_xor_sync(ALL_LANES, value, away);
  return value;
}

// The row of this thread's warp, in kernels with one warp per row, and its lane in the warp.
__device__ __forceinline__ int own_row() {
  return blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}
__device__ __forceinline__ int own_lane() { return threadIdx.x % WARP; }

// Propagates NaN, because comparisons with NaN are false; max(v, 0) would return 0.
__device__ __forceinline__ real relu(real v) { return v <= 0 ? 0 : v; }

// The gates of reference/gates.py, in the order of its GATES.
enum Gate { SIGMOID, TANH, RELU, HARD_SIGMOID };

__device__ __forceinline__ real gate_forward(real v, int gate) {
  if (gate == SIGMOID) {
    const real e = exp(v < 0 ? v : -v);  // at most 1, so it cannot overflow
    return (v < 0 ? e : real(1)) / (1 + e);
  }
  if (gate == TANH) return tanh(v);
  if (gate == RELU) return relu(v);
  return v <= -3 ? real(0) : v >= 3 ? real(1) : (v + 3) / 6;
}

__device__ __forceinline__ real gate_backward(real ds, real s, int gate) {
  if (gate == SIGMOID) return ds * s * (1 - s);
  if (gate == TANH) return ds * (1 - s * s);
  if (gate == RELU) return s <= 0 ? real(0) : ds;
  return s <= 0 || s >= 1 ? real(0) : ds / 6;
}

// A block computes both dense layers of an image: u = w1 z + b1, h = relu(u), v = w2 h + b2 and
// s = gate(v). z (C), h (R) and s (C) are in shared memory; save_h and save_s are the image's rows
// of the cache. A bias may be null. In layer 1 a warp computes a hidden unit, so that its lanes
// read adjacent elements of w1; in layer 2 a thread computes a gate, because its sum has only R
// terms. On return s is complete for all threads.
struct Excite {
  const real *w1, *b1, *w2, *b2;
  int gate, C, R;
};

__device__ __forceinline__ void excite_image(
    const Excite& net, const real* z, real* h, real* s, real* save_h, real* save_s) {
  const int lane = own_lane();
  for (int r = threadIdx.x / WARP; r < net.R; r += blockDim.x / WARP) {
    real u = 0;
    for (int c = lane; c < net.C; c += WARP) u += net.w1[(size_t)r * net.C + c] * z[c];
    u = sum_of_lanes(u) + (net.b1 ? net.b1[r] : real(0));
    if (lane == 0) save_h[r] = h[r] = relu(u);
  }
  __syncthreads();  // h is complete
  for (int c = threadIdx.x; c < net.C; c += blockDim.x) {
    real v = net.b2 ? net.b2[c] : real(0);
    for (int r = 0; r < net.R; r++) v += net.w2[(size_t)c * net.R + r] * h[r];
    save_s[c] = s[c] = gate_forward(v, net.gate);
  }
  __syncthreads();  // s is complete
}

// The backward pass: computes du (R) and dz (C) from dv (C) in shared memory. du is 0 where h is.
__device__ __forceinline__ void excite_image_backward(
    const Excite& net, const real* dv, const real* h, real* du, real* dz, real* save_du) {
  const int lane = own_lane();
  for (int r = threadIdx.x / WARP; r < net.R; r += blockDim.x / WARP) {
    real dh = 0;
    for (int c = lane; c < net.C; c += WARP) dh += net.w2[(size_t)c * net.R + r] * dv[c];
    dh = sum_of_lanes(dh);
    if (lane == 0) save_du[r] = du[r] = h[r] <= 0 ? real(0) : dh;  // a mask: NaN may end here
  }
  __syncthreads();  // du is complete
  for (int c = threadIdx.x; c < net.C; c += blockDim.x) {
    real sum = 0;
    for (int r = 0; r < net.R; r++) sum += net.w1[(size_t)r * net.C + c] * du[r];
    dz[c] = sum;
  }
  __syncthreads();  // dz is complete
}
