// Squeeze-and-excitation with one block per image: each pixel is read from memory once.
//
// Idea. The simple kernels read x twice, because the gates depend on the whole image. A small image
// fits into the shared memory of a block, on the chip (64 KB on Turing, up to 227 KB on Hopper;
// 16 x 32 x 32 floats are 64 KB). So one block computes all steps:
//
//     tile = x[n]                                 1. read, once
//     z    = tile.mean(axis=(1, 2))               2. squeeze, from the tile
//     s    = gate(w2 @ max(w1 @ z + b1, 0) + b2)  3. excite, in shared memory
//     out[n] = tile * s                           4. scale, from the tile
//
// The backward pass reads dout twice, and x once, for ds = sum of dout * x: the tile holds dout,
// and x is read from memory.
//
// Bytes. Forward reads x and writes out: 2 S. Backward reads dout and x and writes dx: 3 S. This is
// the minimum. Every block reads the weights; at CIFAR's sizes they are small and cached.
//
// Split of the work. In step 1 all threads copy adjacent chunks of 16 bytes; copies are
// independent, so many are in flight at once. In steps 2 and 4 a group of lanes handles a row: 32
// lanes for 32 x 32 pixels, 16 for 8 x 8, whose rows have only 16 chunks. While one block waits for
// memory, other blocks on the multiprocessor compute: three fit with a tile of 64 KB out of 227,
// and with 3 * 512 threads of 40 registers each.

template <int P> __device__ void copy_to_tile(const real* from, real* tile, int count) {
#pragma unroll 4
  for (int i = threadIdx.x * P; i < count; i += blockDim.x * P) {
    store<P>(tile + i, load<P>(from + i));
  }
}

// result[c] = sum over pixels of tile[c] * factor[c]; without factor, of tile[c].
template <int P> __device__ void sums_of_rows(
    const real* tile, const real* factor, real* result, int C, int hw) {
  const Rows rows(hw / P);
  for (int first = 0; first < C; first += rows.groups) {
    const int c = first + rows.group;
    real sum = 0;
    if (c < C) {
#pragma unroll 2
      for (int i = c * hw + rows.lane * P; i < (c + 1) * hw; i += rows.lanes * P) {
        const Chunk<P> pixels = load<P>(tile + i);
        Chunk<P> factors = pixels;
        if (factor) factors = load<P>(factor + i);
#pragma unroll
        for (int k = 0; k < P; k++) sum += factor ? pixels.at[k] * factors.at[k] : pixels.at[k];
      }
    }
    sum = sum_of_lanes(sum, rows.lanes);
    if (c < C && rows.lane == 0) result[c] = sum;
  }
}

// to[c] = tile[c] * scale[c] + shift[c] / hw for all pixels; shift may be null.
template <int P> __device__ void affine_of_rows(
    const real* tile, const real* scale, const real* shift, real* to, int C, int hw) {
  const Rows rows(hw / P);
  for (int c = rows.group; c < C; c += rows.groups) {
    const real factor = scale[c], term = shift ? shift[c] / hw : real(0);
#pragma unroll 4
    for (int i = c * hw + rows.lane * P; i < (c + 1) * hw; i += rows.lanes * P) {
      Chunk<P> pixels = load<P>(tile + i);
#pragma unroll
      for (int k = 0; k < P; k++) pixels.at[k] = pixels.at[k] * factor + term;
      store<P>(to + i, pixels);
    }
  }
}

template <int P> __device__ void forward_image(
    const Excite& net, real* shared, const real* x, real* out, real* z, real* h, real* s, int hw) {
  const int C = net.C;
  real *tile = shared, *zs = tile + C * hw, *ss = zs + C, *hs = ss + C;
  copy_to_tile<P>(x, tile, C * hw);
  __syncthreads();  // the tile is complete
  sums_of_rows<P>(tile, nullptr, zs, C, hw);
  __syncthreads();  // all sums are complete
  for (int c = threadIdx.x; c < C; c += blockDim.x) z[c] = zs[c] = zs[c] / hw;
  __syncthreads();  // z is complete
  excite_image(net, zs, hs, ss, h, s);
  affine_of_rows<P>(tile, ss, nullptr, out, C, hw);
}

extern "C" __global__ void __launch_bounds__(512, 3) tile_forward(
    const real* __restrict__ x, const real* __restrict__ w1, const real* __restrict__ b1,
    const real* __restrict__ w2, const real* __restrict__ b2, real* __restrict__ out,
    real* __restrict__ z, real* __restrict__ h, real* __restrict__ s, int gate, int C, int R,
    int hw) {
  extern __shared__ __align__(16) real shared[];  // the tile (C * hw), z and s (C each), h (R)
  const size_t n = blockIdx.x, start = n * C * hw;
  const Excite net = {w1, b1, w2, b2, gate, C, R};
  real *zn = z + n * C, *hn = h + n * R, *sn = s + n * C;
  if (hw % PACK == 0) forward_image<PACK>(net, shared, x + start, out + start, zn, hn, sn, hw);
  else forward_image<1>(net, shared, x + start, out + start, zn, hn, sn, hw);
}

template <int P> __device__ void backward_image(
    const Excite& net, real* shared, const real* dout, const real* x, const real* h, const real* s,
    real* dx, real* dv, real* du, int hw) {
  const int C = net.C;
  real *tile = shared, *dvs = tile + C * hw, *dzs = dvs + C, *dus = dzs + C, *partial = dus + net.R;
  copy_to_tile<P>(dout, tile, C * hw);
  __syncthreads();  // the tile is complete
  sums_of_rows<P>(tile, x, dvs, C, hw);
  __syncthreads();  // every ds is complete
  for (int c = threadIdx.x; c < C; c += blockDim.x) {
    dv[c] = dvs[c] = gate_backward(dvs[c], s[c], net.gate);
  }
  __syncthreads();  // dv is complete
  excite_image_backward(net, dvs, h, partial, dus, dzs, du);
  affine_of_rows<P>(tile, s, dzs, dx, C, hw);
}

extern "C" __global__ void __launch_bounds__(512, 3) tile_backward(
    const real* __restrict__ dout, const real* __restrict__ x, const real* __restrict__ h,
    const real* __restrict__ s, const real* __restrict__ w1, const real* __restrict__ w2,
    real* __restrict__ dx, real* __restrict__ dv, real* __restrict__ du, int gate, int C, int R,
    int hw) {
  extern __shared__ __align__(16) real shared[];  // the tile (C * hw), dv, dz (C each), du (R), partial
  const size_t n = blockIdx.x, start = n * C * hw;
  const Excite net = {w1, nullptr, w2, nullptr, gate, C, R};
  const real *hn = h + n * R, *sn = s + n * C;
  real *dvn = dv + n * C, *dun = du + n * R;
  const real *douts = dout + start, *xs = x + start;
  if (hw % PACK == 0) {
    backward_image<PACK>(net, shared, douts, xs, hn, sn, dx + start, dvn, dun, hw);
  } else {
    backward_image<1>(net, shared, douts, xs, hn, sn, dx + start, dvn, dun, hw);
  }
}
