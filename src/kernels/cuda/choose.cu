// Chooses a token from each row of logits on a GPU: the most likely one, a sample, or a given one, and returns its
// log-probability.
//
// `engine/cuda` launches the kernel and copies only `out` back to the host. nvcc compiles it; the tests compile it with a
// C++ compiler over `emulator.h`.

typedef unsigned int u32;

// Represents no token or no mask.
constexpr u32 NONE = 0xffffffffu;

// The sampling parameters of one row of logits.
struct RowRequest {
  u32 mask;           // index of the mask of allowed tokens; NONE allows all
  u32 given;          // the token to return in any case; NONE to choose one
  float temperature;  // divides the logits; 0 chooses the most likely token
  float top_p;        // sample from the most likely tokens whose probabilities sum to this
  u32 top_k;          // sample from at most this many of the most likely tokens; 0 means all
  float random;       // random number in [0, 1) that determines the sample
};

// The result for one row of logits.
struct Choice {
  u32 token;              // NONE if no token is allowed
  float log_probability;  // among all tokens, allowed or not; NaN if a logit of the row is NaN
};

// Returns the sum of `x` over the thread block to every thread; `shared` is (warps).
__device__ float sum_of_block(float x, float* shared) {
  for (u32 step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  __syncthreads();  // all threads have finished reading earlier contents of `shared`
  shared[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.0f;
  for (u32 warp = 0; warp < blockDim.x / 32; warp++) sum += shared[warp];
  return sum;
}

// Returns the largest `x` of the thread block to every thread; `shared` is (warps).
__device__ float largest_of_block(float x, float* shared) {
  for (u32 step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  __syncthreads();
  shared[threadIdx.x / 32] = x;
  __syncthreads();
  float largest = shared[0];
  for (u32 warp = 1; warp < blockDim.x / 32; warp++) largest = fmaxf(largest, shared[warp]);
  return largest;
}

// Returns the largest `bits` for which `sum_from(bits)`, a sum over the weights with at least these bits, reaches `target`.
// Weights are in [0, 1], and the bits of such floats have the order of their values.
template <typename Sum>
__device__ u32 threshold(float target, Sum sum_from) {
  u32 low = 0, high = 0x3f800001u;  // one more than the bits of 1
  while (high - low > 1) {
    const u32 middle = (low + high) / 2;
    if (sum_from(middle) >= target) low = middle;
    else high = middle;
  }
  return low;
}

// `logits` is (rows, vocab); `masks` is (masks, (vocab + 31) / 32) with one bit per token; `requests` and `out` are (rows). One
// thread block per row, whose size is a multiple of 32.
extern "C" __global__ void choose(const float* logits, const u32* masks, const u32* requests, u32* out, u32 vocab) {
  extern __shared__ float shared[];
  const RowRequest request = reinterpret_cast<const RowRequest*>(requests)[blockIdx.x];
  Choice* choice = reinterpret_cast<Choice*>(out) + blockIdx.x;
  const float* row = logits + (size_t)blockIdx.x * vocab;
  auto allowed = [&](u32 id) {
    const size_t word = (size_t)request.mask * ((vocab + 31) / 32) + id / 32;
    return request.mask == NONE || (masks[word] >> id % 32 & 1) != 0;
  };

  // Find the largest logit, the largest allowed logit and the first token that has it, and check for NaN.
  float largest = -INFINITY, largest_allowed = -INFINITY, has_nan = 0.0f;
  u32 likeliest = NONE;
  for (u32 id = threadIdx.x; id < vocab; id += blockDim.x) {
    const float logit = row[id];
    has_nan = isnan(logit) ? 1.0f : has_nan;
    largest = fmaxf(largest, logit);
    if (logit > largest_allowed && allowed(id)) {
      largest_allowed = logit;
      likeliest = id;
    }
  }
  has_nan = largest_of_block(has_nan, shared);
  largest = largest_of_block(largest, shared);
  const float top = largest_of_block(largest_allowed, shared);
  // The loader limits ids to less than 2^24, so floats represent them exactly.
  const bool has_top = largest_allowed == top && likeliest != NONE;
  const float first = -largest_of_block(has_top ? -(float)likeliest : -INFINITY, shared);
  likeliest = first == INFINITY ? NONE : (u32)first;
  float sum = 0.0f;
  for (u32 id = threadIdx.x; id < vocab; id += blockDim.x) sum += expf(row[id] - largest);
  const float log_sum = largest + logf(sum_of_block(sum, shared));

  if (has_nan != 0.0f || request.given != NONE || request.temperature == 0.0f || likeliest == NONE) {
    const u32 token = request.given != NONE ? request.given : likeliest;
    const float log_probability = token == NONE ? -INFINITY : row[token] - log_sum;
    if (threadIdx.x == 0) *choice = {token, has_nan != 0.0f ? NAN : log_probability};
    return;  // the same for the whole thread block
  }

  // Sample. Weights are probabilities of the allowed tokens, relative to that of the likeliest.
  auto weight = [&](u32 id) { return allowed(id) ? expf((row[id] - top) / request.temperature) : 0.0f; };
  auto sum_from = [&](u32 bits, bool is_count) {
    float sum = 0.0f;
    for (u32 id = threadIdx.x; id < vocab; id += blockDim.x) {
      const float w = weight(id);
      if (w > 0.0f && __float_as_uint(w) >= bits) sum += is_count ? 1.0f : w;
    }
    return sum;
  };
  auto mass_from = [&](u32 bits) { return sum_of_block(sum_from(bits, false), shared); };
  auto count_from = [&](u32 bits) { return sum_of_block(sum_from(bits, true), shared); };
  u32 least = 1;  // bits of the smallest weight that may be sampled
  if (request.top_p < 1.0f) least = max(least, threshold(request.top_p * mass_from(0), mass_from));
  if (request.top_k != 0) least = max(least, threshold((float)request.top_k, count_from));

  // A thread owns every blockDim.x-th token: first sample a thread, then one of its tokens.
  const float thread_sum = sum_from(least, false);
  __syncthreads();
  shared[threadIdx.x] = thread_sum;
  __syncthreads();
  float total = 0.0f;
  for (u32 thread = 0; thread < blockDim.x; thread++) total += shared[thread];
  float remaining = request.random * total;
  u32 owner = 0;
  for (u32 thread = 0; thread < blockDim.x; thread++) {
    if (shared[thread] == 0.0f) continue;
    owner = thread;  // ends as the last thread with any weight if rounding leaves a remainder
    if (remaining < shared[thread]) break;
    remaining -= shared[thread];
  }
  if (threadIdx.x != owner) return;
  u32 token = NONE;
  for (u32 id = threadIdx.x; id < vocab; id += blockDim.x) {
    const float w = weight(id);
    if (w == 0.0f || __float_as_uint(w) < least) continue;
    token = id;
    if (remaining < w) break;
    remaining -= w;
  }
  *choice = {token, row[token] - log_sum};
}
