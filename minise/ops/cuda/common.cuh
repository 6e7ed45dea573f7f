// Device functions of all kernels. The launcher prepends this file to every source.
//
// An array (N, C, H, W) is N * C contiguous rows of hw = H * W numbers. Threads run in warps of 32,
// whose lanes can read each other's registers. The GPU transfers memory in sectors of 32 bytes, and
// bandwidth is highest when a warp reads 512 adjacent bytes at once: 32 lanes, 16 bytes each. A
// Chunk is what one lane reads: P adjacent numbers. Split says how a warp reads its rows.
//
// Every sum has a fixed order and every number is written by a single thread, without atomic
// additions, so the same inputs give the same bits.

typedef REAL real;  // float or double: each source is compiled for either
constexpr int PACK = 16 / sizeof(real);  // numbers in 16 bytes
constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

#ifndef ALIGNED
#define ALIGNED(p, bytes) (p)  // the emulator checks the address
#endif

template <int P> struct __align__(P * sizeof(real)) Chunk { real at[P]; };

template <int P> __device__ __forceinline__ Chunk<P> load(const real* p) {
  return *reinterpret_cast<const Chunk<P>*>(ALIGNED(p, sizeof(Chunk<P>)));
}

template <int P> __device__ __forceinline__ void store(real* p, const Chunk<P>& chunk) {
  *reinterpret_cast<Chunk<P>*>(ALIGNED(p, sizeof(Chunk<P>))) = chunk;
}

// Tables that a kernel takes by value; all its parameters take at most 4 KB.
constexpr int ENTRIES = sizeof(real) == 4 ? 112 : 96;  // plan.py has the same
struct Arrays { real* at[ENTRIES]; };  // the launcher passes a list of arrays
struct Ints { int at[ENTRIES]; };
struct Reals { real at[ENTRIES]; };

// In kernels over many arrays, a block computes NUMBERS numbers of one array. Returns the array's
// index, by binary search: the last of `count` entries whose first block is not after this block.
constexpr int NUMBERS = 2048;  // arrays.py has the same
__device__ __forceinline__ int own_entry(const Ints& first_blocks, int count) {
  int k = 0;
  for (int step = 64; step > 0; step /= 2) {
    if (k + step < count && first_blocks.at[k + step] <= blockIdx.x) k += step;
  }
  return k;
}

// Returns to each lane the sum over its group of `lanes` adjacent lanes, a power of two. In each
// round a lane adds the value of a partner: first the lane half a group away, last its neighbour.
// All 32 lanes of the warp must call it together.
template <class T> __device__ __forceinline__ T sum_of_lanes(T value, int lanes = WARP) {
  for (int away = lanes / 2; away > 0; away /= 2) value += __shfl_xor_sync(ALL_LANES, value, away);
  return value;
}

// The index of this thread's warp in the grid, and of its lane in the warp.
__device__ __forceinline__ int own_warp() {
  return blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}
__device__ __forceinline__ int own_lane() { return threadIdx.x % WARP; }

// How a warp reads its rows: by chunks of P numbers of ROWS rows.
//
//     hw a multiple of PACK          one row, by aligned chunks of 16 bytes
//     a few odd rows, such as 7 x 7  PACK rows: together they are hw chunks of 16 bytes, of which at
//                                    most two rows share one. For 7 x 7 floats 4 rows are 49 chunks,
//                                    read in two rounds, with 77 % of the lanes
//     otherwise                      one row, by single numbers
//
// The caller's group is the number of rows of a warp (launcher.py, rows_per_warp). The rows of a
// group are channels of one image, so that sums do not depend on the number of images.
template <int P, int ROWS> struct Split {};

template <class Body> __device__ __forceinline__ void with_split(int group, int hw, Body body) {
  if (group > 1) body(Split<PACK, PACK>());
  else if (hw % PACK == 0) body(Split<PACK, 1>());
  else body(Split<1, 1>());
}

// The row that contains number i of a warp's rows.
template <int ROWS> __device__ __forceinline__ int row_at(int i, int hw) {
  int row = 0;
#pragma unroll
  for (int q = 1; q < ROWS; q++) row += i >= q * hw;
  return row;
}

// Adds each number of the chunk at i to the sum of its row.
template <int P, int ROWS> __device__ __forceinline__ void add_to_rows(
    real (&sums)[ROWS], const Chunk<P>& chunk, int i, int hw) {
  const int first = row_at<ROWS>(i, hw), rest = (first + 1) * hw - i;  // numbers of the first row
#pragma unroll
  for (int k = 0; k < P; k++) {
#pragma unroll
    for (int q = 0; q < ROWS; q++) {
      sums[q] += ROWS == 1 || q == first + (k >= rest) ? chunk.at[k] : real(0);
    }
  }
}

// Returns to each lane the warp's sum of row lane / (WARP / ROWS). Half of the lanes keep the upper
// half of the rows, the others the lower half, until each has one row.
template <int ROWS, class T> __device__ __forceinline__ T sum_of_rows(
    const T (&sums)[ROWS], int lanes = WARP) {
  if constexpr (ROWS == 1) {
    return sum_of_lanes(sums[0], lanes);
  } else {
    const bool upper = own_lane() & lanes / 2;
    T half[ROWS / 2];
#pragma unroll
    for (int q = 0; q < ROWS / 2; q++) {
      const T low = sums[q], high = sums[q + ROWS / 2];
      half[q] = (upper ? high : low) + __shfl_xor_sync(ALL_LANES, upper ? low : high, lanes / 2);
    }
    return sum_of_rows<ROWS / 2>(half, lanes / 2);
  }
}

// Calls body(i, first, last, rest) for every chunk of a warp's rows: numbers i to i + rest - 1 have
// the map `first`, the others `last`. map_of returns the map of a row of the warp.
template <int UNROLL, int P, int ROWS, class MapOf, class Body>
__device__ __forceinline__ void map_rows(Split<P, ROWS>, int hw, MapOf map_of, Body body) {
  auto first = map_of(0), last = first;
#pragma unroll UNROLL
  for (int i = own_lane() * P; i < ROWS * hw; i += WARP * P) {
    int rest = P;
    if (ROWS > 1) {
      const int row = row_at<ROWS>(i, hw);
      first = map_of(row);
      last = map_of(row_at<ROWS>(i + P - 1, hw));
      rest = (row + 1) * hw - i;
    }
    body(i, first, last, rest);
  }
}

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

// The number of lanes for a row of `chunks` chunks: a power of two, at most a warp.
__device__ __forceinline__ int lanes_for(int chunks) {
  int lanes = 1;
  while (lanes < WARP && lanes < chunks) lanes *= 2;
  return lanes;
}

// Distributes rows of `chunks` chunks over groups of adjacent lanes. In loops that shuffle, every
// lane of a warp makes the same number of iterations, even if the last one has fewer rows than
// groups.
struct Rows {
  int lanes, lane, group, groups;
  __device__ explicit Rows(int chunks) {
    lanes = lanes_for(chunks);
    lane = threadIdx.x % lanes;
    group = threadIdx.x / lanes;
    groups = blockDim.x / lanes;
  }
};

// Dense layers of a few images: w (J, K) is a weight, and x has one row per image. The threads read
// adjacent elements of w, each once for all IMAGES images; the order of a sum does not depend on
// the number of images.
//
// dense calls epilogue(m, j, sum over k of w[j, k] * x[m, k]) for each row j of w that block number
// `block` of `blocks` computes, with a group of lanes per row.
template <int IMAGES, class Epilogue> __device__ __forceinline__ void dense(
    const real* w, const real* x, int J, int K, int images, int block, int blocks,
    Epilogue epilogue) {
  const Rows rows(K);
  for (int first = block * rows.groups; first < J; first += blocks * rows.groups) {
    const int j = first + rows.group;
    real sums[IMAGES] = {};
#pragma unroll 1
    for (int k = rows.lane; j < J && k < K; k += rows.lanes) {
      const real weight = w[(size_t)j * K + k];
#pragma unroll
      for (int m = 0; m < IMAGES; m++) {
        if (IMAGES == 1 || m < images) sums[m] += weight * x[m * K + k];
      }
    }
#pragma unroll
    for (int m = 0; m < IMAGES; m++) sums[m] = sum_of_lanes(sums[m], rows.lanes);
    for (int m = rows.lane; j < J && m < images; m += rows.lanes) {
      real sum = sums[0];
#pragma unroll
      for (int i = 1; i < IMAGES; i++) sum = i == m ? sums[i] : sum;  // sums[m], in a register
      epilogue(m, j, sum);
    }
  }
}

// Calls epilogue(m, k, sum over j of x[m, j] * w[j, k]) for `count` columns k from `begin` on. Groups
// of lanes sum the rows j = group, group + groups, …; partial (warps * IMAGES * count numbers of
// shared memory) holds the sums of the warps, which are added in their order.
template <int IMAGES, class Epilogue> __device__ __forceinline__ void dense_transposed(
    const real* w, const real* x, real* partial, int J, int K, int begin, int count, int images,
    Epilogue epilogue) {
  const Rows rows(count);
  const int warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  for (int first = 0; first < count; first += rows.lanes) {
    const int k = first + rows.lane;
    real sums[IMAGES] = {};
#pragma unroll 2
    for (int j = rows.group; k < count && j < J; j += rows.groups) {
      const real weight = w[(size_t)j * K + begin + k];
#pragma unroll
      for (int m = 0; m < IMAGES; m++) {
        if (IMAGES == 1 || m < images) sums[m] += x[m * J + j] * weight;
      }
    }
#pragma unroll
    for (int m = 0; m < IMAGES; m++) {
      real sum = sums[m];
      for (int away = rows.lanes; away < WARP; away *= 2) {
        sum += __shfl_xor_sync(ALL_LANES, sum, away);
      }
      if (k < count && own_lane() < rows.lanes) partial[(warp * IMAGES + m) * count + k] = sum;
    }
  }
  __syncthreads();  // the sums of all warps are complete
  for (int i = threadIdx.x; i < images * count; i += blockDim.x) {
    real total = 0;
    for (int w = 0; w < warps; w++) total += partial[w * IMAGES * count + i];
    epilogue(i / count, begin + i % count, total);
  }
}

// A block computes both dense layers of an image: h = relu(w1 z + b1) and s = gate(w2 h + b2).
// z (C), h (R) and s (C) are in shared memory; save_h and save_s are the image's rows of the cache.
// A bias may be null. On return s is complete for all threads.
struct Excite {
  const real *w1, *b1, *w2, *b2;
  int gate, C, R;
};

__device__ __forceinline__ void excite_image(
    const Excite& net, const real* z, real* h, real* s, real* save_h, real* save_s) {
  dense<1>(net.w1, z, net.R, net.C, 1, 0, 1, [&](int, int r, real u) {
    save_h[r] = h[r] = relu(u + (net.b1 ? net.b1[r] : real(0)));
  });
  __syncthreads();  // h is complete
  dense<1>(net.w2, h, net.C, net.R, 1, 0, 1, [&](int, int c, real v) {
    save_s[c] = s[c] = gate_forward(v + (net.b2 ? net.b2[c] : real(0)), net.gate);
  });
  __syncthreads();  // s is complete
}

// The backward pass: computes du (R) and dz (C) from dv (C) in shared memory, where partial has a
// number for each warp and hidden unit. du is 0 where h is.
__device__ __forceinline__ void excite_image_backward(
    const Excite& net, const real* dv, const real* h, real* partial, real* du, real* dz,
    real* save_du) {
  const int C = net.C, R = net.R;
  dense_transposed<1>(net.w2, dv, partial, C, R, 0, R, 1, [&](int, int r, real dh) {
    save_du[r] = du[r] = h[r] <= 0 ? real(0) : dh;  // a mask: NaN may end here
  });
  __syncthreads();  // du is complete
  for (int c = threadIdx.x; c < C; c += blockDim.x) {
    real sum = 0;
    for (int r = 0; r < R; r++) sum += net.w1[(size_t)r * C + c] * du[r];
    dz[c] = sum;
  }
  __syncthreads();  // dz is complete
}
