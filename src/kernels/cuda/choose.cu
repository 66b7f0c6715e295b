// Chooses tokens out of logits on a GPU: the most likely, a draw, or a given one, and tells how likely it was.
//
// Launched by `engine/cuda`: only what it writes into `out` goes back to the host. Compiled by nvcc, and by a C++
// compiler over `emulator.h` for the tests.

typedef unsigned int u32;

// No token, no mask.
constexpr u32 NONE = 0xffffffffu;

// What is asked of one row of logits.
struct Wanted {
  u32 mask;           // which mask says what is allowed; NONE allows all
  u32 given;          // the token that comes anyway; NONE to choose one
  float temperature;  // divides the logits; 0 takes the most likely
  float top_p;        // draw among the most likely tokens whose probabilities sum to this
  u32 top_k;          // and among so many of the most likely; 0 means all
  float random;       // decides the draw, in [0, 1)
};

// What comes of it.
struct Choice {
  u32 token;              // NONE where no token is allowed
  float log_probability;  // among all tokens, allowed or not; NaN where a logit of the row is
};

// Sum of `x` over the block, for every thread; `shared` (warps).
__device__ float sum_of_block(float x, float* shared) {
  for (u32 step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  __syncthreads();  // nobody reads what was shared before
  shared[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.0f;
  for (u32 warp = 0; warp < blockDim.x / 32; warp++) sum += shared[warp];
  return sum;
}

// Largest `x` of the block, for every thread; `shared` (warps).
__device__ float largest_of_block(float x, float* shared) {
  for (u32 step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  __syncthreads();
  shared[threadIdx.x / 32] = x;
  __syncthreads();
  float largest = shared[0];
  for (u32 warp = 1; warp < blockDim.x / 32; warp++) largest = fmaxf(largest, shared[warp]);
  return largest;
}

// The largest `bits` for which `sum_from(bits)`, a sum over the weights that have at least these bits, is `enough`.
// Weights lie in [0, 1], and the bits of such floats stand in the order of their values.
template <typename Sum>
__device__ u32 threshold(float enough, Sum sum_from) {
  u32 low = 0, high = 0x3f800001u;  // one more than the bits of 1
  while (high - low > 1) {
    const u32 middle = (low + high) / 2;
    if (sum_from(middle) >= enough) low = middle;
    else high = middle;
  }
  return low;
}

// `logits` (rows, vocab), `masks` (masks, (vocab + 31) / 32) with a bit a token, `wanted`, `out` (rows). A block a row, of a
// multiple of 32 threads.
extern "C" __global__ void choose(const float* logits, const u32* masks, const u32* wanted, u32* out, u32 vocab) {
  extern __shared__ float shared[];
  const Wanted want = reinterpret_cast<const Wanted*>(wanted)[blockIdx.x];
  Choice* choice = reinterpret_cast<Choice*>(out) + blockIdx.x;
  const float* row = logits + (size_t)blockIdx.x * vocab;
  auto allowed = [&](u32 id) {
    const size_t word = (size_t)want.mask * ((vocab + 31) / 32) + id / 32;
    return want.mask == NONE || (masks[word] >> id % 32 & 1) != 0;
  };

  // The largest logit, the largest allowed one and the first token that has it, and whether all are numbers.
  float largest = -INFINITY, most = -INFINITY, broken = 0.0f;
  u32 likeliest = NONE;
  for (u32 id = threadIdx.x; id < vocab; id += blockDim.x) {
    const float logit = row[id];
    broken = isnan(logit) ? 1.0f : broken;
    largest = fmaxf(largest, logit);
    if (logit > most && allowed(id)) {
      most = logit;
      likeliest = id;
    }
  }
  broken = largest_of_block(broken, shared);
  largest = largest_of_block(largest, shared);
  const float top = largest_of_block(most, shared);
  // Ids are below 2^24, so that floats hold them: a size that the loader allows.
  const float first = -largest_of_block(most == top && likeliest != NONE ? -(float)likeliest : -INFINITY, shared);
  likeliest = first == INFINITY ? NONE : (u32)first;
  float sum = 0.0f;
  for (u32 id = threadIdx.x; id < vocab; id += blockDim.x) sum += expf(row[id] - largest);
  const float log_sum = largest + logf(sum_of_block(sum, shared));

  if (broken != 0.0f || want.given != NONE || want.temperature == 0.0f || likeliest == NONE) {
    const u32 token = want.given != NONE ? want.given : likeliest;
    const float log_probability = token == NONE ? -INFINITY : row[token] - log_sum;
    if (threadIdx.x == 0) *choice = {token, broken != 0.0f ? NAN : log_probability};
    return;  // the same for the whole block
  }

  // A draw. Weights are probabilities among the allowed tokens, the likeliest one having 1.
  auto weight = [&](u32 id) { return allowed(id) ? expf((row[id] - top) / want.temperature) : 0.0f; };
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
  u32 least = 1;  // bits of the least weight that is drawn from
  if (want.top_p < 1.0f) least = max(least, threshold(want.top_p * mass_from(0), mass_from));
  if (want.top_k != 0) least = max(least, threshold((float)want.top_k, count_from));

  // Threads own every blockDim.x-th token: first the thread is drawn, then one of its tokens.
  const float mine = sum_from(least, false);
  __syncthreads();
  shared[threadIdx.x] = mine;
  __syncthreads();
  float total = 0.0f;
  for (u32 thread = 0; thread < blockDim.x; thread++) total += shared[thread];
  float rest = want.random * total;
  u32 owner = 0;
  for (u32 thread = 0; thread < blockDim.x; thread++) {
    if (shared[thread] == 0.0f) continue;
    owner = thread;  // the last one that has any, should rounding leave a rest
    if (rest < shared[thread]) break;
    rest -= shared[thread];
  }
  if (threadIdx.x != owner) return;
  u32 token = NONE;
  for (u32 id = threadIdx.x; id < vocab; id += blockDim.x) {
    const float w = weight(id);
    if (w == 0.0f || __float_as_uint(w) < least) continue;
    token = id;
    if (rest < w) break;
    rest -= w;
  }
  *choice = {token, row[token] - log_sum};
}
