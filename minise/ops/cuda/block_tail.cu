// Batch normalisation and the ends of residual units: out = relu(SE(batch_norm(x)) + shortcut).
//
// Idea. The derivation is in reference/fused.py: batch norm and SE need only sums over the rows of
// an image, and all computation between the sums is on N * C numbers. So every variant makes two
// passes over the images forward and two backward:
//
//     forward   row_moments          mean and centred squares of each row of x
//               channel_moments      mean and rstd of each channel; zhat and z    (N * C numbers)
//               excite               the gates, squeeze_excite.cu                 (N * C numbers)
//               normalise            out = relu((gamma * xhat + beta) * s + shortcut)
//
//     backward  gradient_sums        g = dout where out > 0; sums of g and g * xhat, dv of each row
//               excite_backward, weight_gradients                                 (N * C numbers)
//               channel_gradients    dgamma, dbeta                                    (C numbers)
//               norm_input_gradient  dx, an affine map of g and xhat
//
// Ops without gates or shortcut, such as plain batch norm, pass null for them.
//
// Bytes. Images have S = N * C * H * W numbers. Forward: row_moments reads x; normalise reads x and
// the shortcut and writes out, 4 S. Backward: gradient_sums reads dout, out and x and writes g,
// which is the shortcut's gradient; norm_input_gradient reads g and x and writes dx, 7 S. The total
// is 11 S; separate ops, as in PyTorch, move about 30 S. A convolution that also computes the
// moments of its output would save the first read.
//
// The variance is not computed as mean(x ** 2) - mean ** 2, which loses all digits for a large
// mean. A row is read in pieces that fit into the registers of a warp: 512 floats, 16 per lane. For
// each piece the warp computes the mean and the sum of centred squares. The sum of the centred
// pixels is the rounding error of the mean, times their number, and corrects both. Pieces (or rows)
// of a and b pixels are merged by
//
//     mean = mean_a + apart * b / (a + b)                      apart = mean_b - mean_a
//     m2   = m2_a + m2_b + apart ** 2 * a * b / (a + b)
//
// The moments of rows are stored and merged in double precision, at little cost.
//
// Split of the work. One warp per row or group of rows, as in squeeze_excite.cu. Kernels that reduce
// N * C numbers to C have one warp per channel: lane l sums the images l, l + 32, …, then the lanes
// are summed.
//
// Source: Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American
// Statistician 37 (1983), for the merge and the correction.

constexpr int HELD = 4;  // chunks of a piece that a lane holds

template <int P, int ROWS> __device__ void moments_of_rows(
    Split<P, ROWS>, const real* x, double* mean, double* m2, int hw) {
  constexpr int PIECE = WARP * P * HELD, LANES = WARP / ROWS;
  double mean_so_far = 0, m2_so_far = 0;
  for (int start = 0; start < ROWS * hw; start += PIECE) {  // once if ROWS > 1
    const double count = ROWS > 1 ? hw : min(hw - start, PIECE), seen = start;
    const int own = start + own_lane() * P;
    Chunk<P> held[HELD];
    real sums[ROWS] = {}, squares[ROWS] = {}, left[ROWS] = {}, centres[ROWS];
#pragma unroll
    for (int h = 0; h < HELD; h++) {
      const int i = own + h * WARP * P;
      if (i >= ROWS * hw) continue;
      held[h] = load<P>(x + i);
      add_to_rows(sums, held[h], i, hw);
    }
    const real centre = sum_of_rows(sums) / (real)count;  // the mean, with a rounding error
#pragma unroll
    for (int q = 0; q < ROWS; q++) {
      centres[q] = ROWS == 1 ? centre : __shfl_sync(ALL_LANES, centre, q * LANES);
    }
#pragma unroll
    for (int h = 0; h < HELD; h++) {
      const int i = own + h * WARP * P;
      if (i >= ROWS * hw) continue;
      Chunk<P> squared;
#pragma unroll
      for (int k = 0; k < P; k++) {
        const int row = row_at<ROWS>(i + k, hw);
        real subtracted = centres[0];
#pragma unroll
        for (int q = 1; q < ROWS; q++) subtracted = q == row ? centres[q] : subtracted;
        held[h].at[k] -= subtracted;
        squared.at[k] = held[h].at[k] * held[h].at[k];
      }
      add_to_rows(squares, squared, i, hw);
      add_to_rows(left, held[h], i, hw);
    }
    double wide_left[ROWS], wide_squares[ROWS];
#pragma unroll
    for (int q = 0; q < ROWS; q++) {
      wide_left[q] = left[q];
      wide_squares[q] = squares[q];
    }
    const double rest = sum_of_rows(wide_left);  // 0 if centre were exact
    const double middle = centre + rest / count;
    const double piece = sum_of_rows(wide_squares) - rest * rest / count;
    const double apart = middle - mean_so_far;
    m2_so_far += piece + apart * apart * (seen * count / (seen + count));
    mean_so_far += apart * (count / (seen + count));
  }
  if (own_lane() % LANES == 0) {
    mean[own_lane() / LANES] = mean_so_far;
    m2[own_lane() / LANES] = m2_so_far;
  }
}

extern "C" __global__ void __launch_bounds__(256, 4) row_moments(
    const real* __restrict__ x, double* __restrict__ row_mean, double* __restrict__ row_m2,
    int group, int rows, int hw) {
  const int row = own_warp() * group;
  if (row >= rows) return;
  const real* pixels = x + (size_t)row * hw;
  with_split(group, hw, [&](auto split) {
    moments_of_rows(split, pixels, row_mean + row, row_m2 + row, hw);
  });
}

// Computes mean and rstd of each channel. In training they are those of the batch, and the running
// statistics move by momentum towards the mean and the unbiased variance, possibly in place:
// new_mean and new_var may be running_mean and running_var. In evaluation the running statistics
// are the moments, and mean, new_mean and new_var are null.
//
// z (null without gates) is the squeeze of the normalised x, from the row means: normalisation is
// affine, and so commutes with the mean.
extern "C" __global__ void __launch_bounds__(256) channel_moments(
    const double* __restrict__ row_mean, const double* __restrict__ row_m2,
    const real* __restrict__ gamma, const real* __restrict__ beta, const real* running_mean,
    const real* running_var, real* __restrict__ mean, real* __restrict__ rstd, real* new_mean,
    real* new_var, real* __restrict__ zhat, real* __restrict__ z, double momentum, double eps,
    int training, int N, int C, int hw) {
  const int c = own_warp(), lane = own_lane();
  if (c >= C) return;
  double middle, var;
  if (training) {
    double sum = 0, m2 = 0;
    for (int n = lane; n < N; n += WARP) sum += row_mean[(size_t)n * C + c];
    middle = sum_of_lanes(sum) / N;  // rows have equal length
    for (int n = lane; n < N; n += WARP) {
      const double apart = row_mean[(size_t)n * C + c] - middle;
      m2 += row_m2[(size_t)n * C + c] + hw * apart * apart;
    }
    var = sum_of_lanes(m2) / ((double)N * hw);
  } else {
    middle = running_mean[c];
    var = running_var[c];
  }
  const real centre = (real)middle, scale = (real)(1 / sqrt(var + eps));
  for (int n = lane; z && n < N; n += WARP) {
    const size_t row = (size_t)n * C + c;
    const double normal = (row_mean[row] - centre) * scale;
    zhat[row] = (real)normal;
    z[row] = (real)(gamma[c] * normal + beta[c]);
  }
  if (lane > 0) return;
  rstd[c] = scale;
  if (!training) return;
  mean[c] = centre;
  const double M = (double)N * hw, unbiased = var * (M / max(1.0, M - 1));
  new_mean[c] = (real)(running_mean[c] + momentum * (middle - running_mean[c]));
  new_var[c] = (real)(running_var[c] + momentum * (unbiased - running_var[c]));
}

struct Affine {  // out = (x - mean) * slope + shift
  real mean, slope, shift;
};

template <int P, int ROWS, class AffineOf> __device__ void normalise_rows(
    Split<P, ROWS> split, const real* x, const real* shortcut, real* out, int clip, int hw,
    AffineOf affine_of) {
  map_rows<4>(split, hw, affine_of, [&](int i, Affine first, Affine last, int rest) {
    Chunk<P> pixels = load<P>(x + i), added = pixels;
    if (shortcut) added = load<P>(shortcut + i);
#pragma unroll
    for (int k = 0; k < P; k++) {
      const Affine map = k < rest ? first : last;
      real v = (pixels.at[k] - map.mean) * map.slope + map.shift;
      if (shortcut) v += added.at[k];
      pixels.at[k] = clip ? relu(v) : v;
    }
    store<P>(out + i, pixels);
  });
}

// s (gates) and shortcut may be null. clip applies the ReLU.
extern "C" __global__ void __launch_bounds__(256) normalise(
    const real* __restrict__ x, const real* __restrict__ mean, const real* __restrict__ rstd,
    const real* __restrict__ gamma, const real* __restrict__ beta, const real* __restrict__ s,
    const real* __restrict__ shortcut, real* __restrict__ out, int clip, int group, int rows, int C,
    int hw) {
  const int row = own_warp() * group;
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  const real* added = shortcut ? shortcut + start : nullptr;
  with_split(group, hw, [&](auto split) {
    normalise_rows(split, x + start, added, out + start, clip, hw, [&](int q) {
      const int c = row % C + q;
      const real gate = s ? s[row + q] : real(1);
      return Affine{mean[c], gamma[c] * rstd[c] * gate, beta[c] * gate};
    });
  });
}

struct Sums {
  double g, gx;  // sums of g and of g * (x - mean)
};

template <int P, int ROWS> __device__ Sums sums_of_gradient(
    Split<P, ROWS> split, const real* dout, const real* out, const real* x, real* save_g,
    const real* mean, int hw) {
  real sum_g[ROWS] = {}, sum_gx[ROWS] = {};
  const auto mean_of = [&](int q) { return mean[q]; };
  map_rows<2>(split, hw, mean_of, [&](int i, real first, real last, int rest) {
    Chunk<P> g = load<P>(dout + i), seen = g, pixels = load<P>(x + i);
    if (out) seen = load<P>(out + i);
#pragma unroll
    for (int k = 0; k < P; k++) {
      if (out && seen.at[k] <= 0) g.at[k] = 0;  // mask of the ReLU
      pixels.at[k] = g.at[k] * (pixels.at[k] - (k < rest ? first : last));
    }
    add_to_rows(sum_g, g, i, hw);
    add_to_rows(sum_gx, pixels, i, hw);
    if (save_g) store<P>(save_g + i, g);
  });
  double wide_g[ROWS], wide_gx[ROWS];
#pragma unroll
  for (int q = 0; q < ROWS; q++) {
    wide_g[q] = sum_g[q];
    wide_gx[q] = sum_gx[q];
  }
  return {sum_of_rows(wide_g), sum_of_rows(wide_gx)};
}

// out is null without a ReLU; g is null if the masked gradient is not needed. dv (null without gates)
// is the gradient of the gates' pre-activation, from ds = sum of g * y with y = gamma * xhat + beta.
extern "C" __global__ void __launch_bounds__(256, 4) gradient_sums(
    const real* __restrict__ dout, const real* __restrict__ out, const real* __restrict__ x,
    const real* __restrict__ mean, const real* __restrict__ rstd, const real* __restrict__ gamma,
    const real* __restrict__ beta, const real* __restrict__ s, real* __restrict__ g,
    double* __restrict__ sum_g, double* __restrict__ sum_gxhat, real* __restrict__ dv, int gate,
    int group, int rows, int C, int hw) {
  const int row = own_warp() * group, lanes = WARP / group;
  if (row >= rows) return;
  const size_t start = (size_t)row * hw;
  const real* seen = out ? out + start : nullptr;
  real* save = g ? g + start : nullptr;
  Sums sums;
  with_split(group, hw, [&](auto split) {
    sums = sums_of_gradient(split, dout + start, seen, x + start, save, mean + row % C, hw);
  });
  if (own_lane() % lanes != 0) return;
  const int own = row + own_lane() / lanes, c = own % C;
  const double to_gamma = sums.gx * rstd[c];
  sum_g[own] = sums.g;
  sum_gxhat[own] = to_gamma;
  if (dv) dv[own] = gate_backward((real)(gamma[c] * to_gamma + beta[c] * sums.g), s[own], gate);
}

// Computes dgamma and dbeta, sums over the images. Without gates s is null: then s = 1 and dz = 0.
extern "C" __global__ void __launch_bounds__(256) channel_gradients(
    const double* __restrict__ sum_g, const double* __restrict__ sum_gxhat,
    const real* __restrict__ s, const real* __restrict__ dz, const real* __restrict__ zhat,
    real* __restrict__ dgamma, real* __restrict__ dbeta, int N, int C) {
  const int c = own_warp(), lane = own_lane();
  if (c >= C) return;
  double to_gamma = 0, to_beta = 0;
  for (int n = lane; n < N; n += WARP) {
    const size_t row = (size_t)n * C + c;
    const double gate = s ? s[row] : real(1), through = s ? dz[row] : real(0);
    to_beta += gate * sum_g[row] + through;
    to_gamma += gate * sum_gxhat[row] + (s ? through * zhat[row] : 0);
  }
  to_gamma = sum_of_lanes(to_gamma);
  to_beta = sum_of_lanes(to_beta);
  if (lane > 0) return;
  dgamma[c] = (real)to_gamma;
  dbeta[c] = (real)to_beta;
}

struct Gradient {  // dx = g * scale + shift - (x - mean) * slope
  real scale, shift, slope, mean;
};

template <int P, int ROWS, class GradientOf> __device__ void gradient_of_rows(
    Split<P, ROWS> split, const real* g, const real* out, const real* x, real* dx, int hw,
    GradientOf gradient_of) {
  map_rows<ROWS == 1 ? 2 : 1>(split, hw, gradient_of, [&](int i, Gradient first, Gradient last, int rest) {
    Chunk<P> dout = load<P>(g + i), seen = dout;
    const Chunk<P> pixels = load<P>(x + i);
    if (out) seen = load<P>(out + i);
#pragma unroll
    for (int k = 0; k < P; k++) {
      const Gradient map = k < rest ? first : last;
      if (out && seen.at[k] <= 0) dout.at[k] = 0;
      dout.at[k] = dout.at[k] * map.scale + map.shift - (pixels.at[k] - map.mean) * map.slope;
    }
    store<P>(dx + i, dout);
  });
}

// Either g is the masked gradient of gradient_sums and out is null, or g is dout and out the mask.
// In evaluation mean and rstd are constants, so their terms are left out.
extern "C" __global__ void __launch_bounds__(256, 4) norm_input_gradient(
    const real* __restrict__ g, const real* __restrict__ out, const real* __restrict__ x,
    const real* __restrict__ mean, const real* __restrict__ rstd, const real* __restrict__ gamma,
    const real* __restrict__ s, const real* __restrict__ dz, const real* __restrict__ dgamma,
    const real* __restrict__ dbeta, real* __restrict__ dx, int training, int group, int N, int C,
    int hw) {
  const int row = own_warp() * group, first_channel = row % C;
  if (row / C >= N) return;
  const size_t start = (size_t)row * hw;
  const real* seen = out ? out + start : nullptr;
  const auto gradient_of = [&](int q) {
    const int c = first_channel + q;
    const double M = (double)N * hw, scale = (double)gamma[c] * rstd[c];
    const double share = s ? (double)dz[row + q] / hw : 0;  // each pixel has 1 / hw of the mean
    const double to_mean = training ? dbeta[c] / M : 0, to_var = training ? dgamma[c] / M : 0;
    Gradient map;
    map.scale = (real)(scale * (s ? s[row + q] : real(1)));
    map.shift = (real)(scale * (share - to_mean));
    map.slope = (real)(scale * rstd[c] * to_var);
    map.mean = mean[c];
    return map;
  };
  with_split(group, hw, [&](auto split) {
    gradient_of_rows(split, g + start, seen, x + start, dx + start, hw, gradient_of);
  });
}
