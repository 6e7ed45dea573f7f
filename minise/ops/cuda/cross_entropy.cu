// Softmax and cross-entropy: reference/loss.py.
//
// Idea. Forward and backward are
//
//     shifted  = logits - logits.max(axis=1)                                      log_softmax
//     logprob  = shifted - log(exp(shifted).sum(axis=1))                          log_softmax
//     loss     = -((1 - e) * logprob[n, labels[n]] + e * logprob.mean(axis=1))    log_softmax
//     loss     = loss.mean()                                                      mean_loss
//
//     dlogprob = at the label -(1 - e) * dout / N, everywhere -e * dout / (N * K)
//     dlogits  = dlogprob - exp(logprob) * dlogprob.sum(axis=1)                   logits_gradient
//
// The host cannot check labels without waiting for the GPU. A label out of range makes the
// loss NaN.
//
// Bytes. Logits of S = N * K numbers. Forward reads them three times, the second and third time
// from a cache if K is below about 10,000, and writes logprob: 2 S. Backward reads logprob and
// writes dlogits: 2 S. This is the minimum.
//
// Split of the work. One warp per row, whose lanes read adjacent numbers; sums are in double
// precision, so that K may be 100,000. The mean is computed by one block, because its order must be
// fixed: a launch of its own takes less time than one block would take for all logits.

__device__ __forceinline__ real max_of_lanes(real value) {
  for (int away = WARP / 2; away > 0; away /= 2) {
    value = max(value, __shfl_xor_sync(ALL_LANES, value, away));
  }
  return value;
}

// NaN among the logits need not reach the maximum: exp(NaN - maximum) is NaN.
extern "C" __global__ void __launch_bounds__(256) log_softmax(
    const real* __restrict__ logits, const long long* __restrict__ labels,
    real* __restrict__ logprob, double* __restrict__ losses, double smoothing, int N, int K) {
  const int n = own_warp(), lane = own_lane();
  if (n >= N) return;
  const real* row = logits + (size_t)n * K;
  real largest = row[min(lane, K - 1)];
  for (int k = lane; k < K; k += WARP) largest = max(largest, row[k]);
  largest = max_of_lanes(largest);
  double sum = 0, mean = 0;
  for (int k = lane; k < K; k += WARP) sum += exp(row[k] - largest);
  const real log_sum = (real)log(sum_of_lanes(sum));
  for (int k = lane; k < K; k += WARP) {
    const real value = row[k] - largest - log_sum;
    logprob[(size_t)n * K + k] = value;
    mean += value;
  }
  mean = sum_of_lanes(mean) / K;
  if (lane > 0) return;
  const long long label = labels[n];
  const bool is_class = label >= 0 && label < K;
  const double hit = is_class ? (double)(row[label] - largest - log_sum) : nan("");
  losses[n] = -((1 - smoothing) * hit + (smoothing ? smoothing * mean : 0));
}

extern "C" __global__ void __launch_bounds__(256) mean_loss(
    const double* __restrict__ losses, real* __restrict__ loss, int N) {
  constexpr int WARPS = 8;
  __shared__ double partial[WARPS];
  double sum = 0;
  for (int n = threadIdx.x; n < N; n += blockDim.x) sum += losses[n];
  sum = sum_of_lanes(sum);
  if (own_lane() == 0) partial[threadIdx.x / WARP] = sum;
  __syncthreads();  // the sums of all warps are complete
  if (threadIdx.x > 0) return;
  double total = 0;
  for (int w = 0; w < WARPS; w++) total += partial[w];
  *loss = (real)(total / N);
}

extern "C" __global__ void __launch_bounds__(256) logits_gradient(
    const real* __restrict__ dout, const real* __restrict__ logprob,
    const long long* __restrict__ labels, real* __restrict__ dlogits, double smoothing, int N,
    int K) {
  const int n = own_warp();
  if (n >= N) return;
  const long long label = labels[n];
  const bool is_class = label >= 0 && label < K;
  const double dhit = is_class ? -(1 - smoothing) * *dout / N : 0, dmean = -smoothing * *dout / N;
  const real at_label = (real)(dhit + dmean / K), elsewhere = (real)(dmean / K);
  const real sum = (real)(dhit + dmean);
  for (int k = own_lane(); k < K; k += WARP) {
    const size_t i = (size_t)n * K + k;
    dlogits[i] = (k == label ? at_label : elsewhere) - exp(logprob[i]) * sum;
  }
}
