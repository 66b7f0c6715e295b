// Attention on a GPU: rotary embedding, writing to the paged KV cache, and the attention of many sequences in one launch.
//
// `model/backend/cuda` launches these kernels. nvcc compiles them; the tests compile them with a C++ compiler over
// `emulator.h`. Arrays are row-major. Cached keys and values are each `(blocks * BLOCK_TOKENS, kv_heads, head_dim)`, where
// `head_dim` is a multiple of 16.

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

typedef unsigned int u32;

// Tokens in a block of the KV cache; equals kernels::KV_BLOCK_TOKENS.
constexpr u32 BLOCK_TOKENS = 16;
// Keys that are processed together: one for each lane of a warp.
constexpr u32 KEYS = 32;
// Warps in a thread block of `attend`.
constexpr u32 WARPS = 4;

// Some query rows of one sequence. The rows of a sequence are ordered by token, then by the heads that share a KV head.
struct Tile {
  u32 row;    // row of the sequence's first token in the batch
  u32 start;  // position of that token
  u32 first;  // first query row of the tile
  u32 rows;   // number of query rows
  u32 table;  // index of the sequence's first block in the table
};

// Rotates every head of a row by the row's position. `x` and `out` are (tokens, heads, head_dim); `cosines` and `sines` are
// (positions, head_dim / 2). A pair is two neighbors, or an element of the first half and one of the second half. One
// thread block per row.
extern "C" __global__ void rotate(const float* x, const float* cosines, const float* sines, const u32* positions,
                                  float* out, u32 heads, u32 head_dim, u32 neighbors) {
  const u32 half = head_dim / 2;
  const size_t angle = (size_t)positions[blockIdx.x] * half;
  const size_t row = (size_t)blockIdx.x * heads * head_dim;
  for (u32 pair = threadIdx.x; pair < heads * half; pair += blockDim.x) {
    const u32 i = pair % half;
    const size_t head = row + (size_t)(pair / half) * head_dim;
    const size_t a = head + (neighbors ? 2 * i : i);
    const size_t b = a + (neighbors ? 1 : half);
    const float c = cosines[angle + i], s = sines[angle + i];
    out[a] = x[a] * c - x[b] * s;
    out[b] = x[a] * s + x[b] * c;
  }
}

// Writes keys and values (tokens, width) to the cache, each row to its slot in `places`. One thread block per row.
extern "C" __global__ void store(const float* keys, const float* values, const u32* places, __half* cached_keys,
                                 __half* cached_values, u32 width) {
  const size_t from = (size_t)blockIdx.x * width, to = (size_t)places[blockIdx.x] * width;
  for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
    cached_keys[to + i] = __float2half(keys[from + i]);
    cached_values[to + i] = __float2half(values[from + i]);
  }
}

__device__ float largest_of_warp(float x) {
  for (u32 step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

__device__ float sum_of_warp(float x) {
  for (u32 step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// Causal attention of all sequences: a query row attends to the keys of its sequence up to its own position, to at most
// `window` of them. `queries` and `out` are (tokens, heads, head_dim); the grid is (tiles, kv_heads) with WARPS * 32 threads.
// The softmax is updated after every 32 keys (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax").
extern "C" __global__ void attend(const float* queries, const __half* cached_keys, const __half* cached_values,
                                  const u32* tiles, const u32* table, float* out, u32 heads, u32 kv_heads,
                                  u32 head_dim, float scale, u32 window) {
  const Tile tile = reinterpret_cast<const Tile*>(tiles)[blockIdx.x];
  const u32 kv_head = blockIdx.y, group = heads / kv_heads, rows = tile.rows;
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u32 words = head_dim / 2;  // a word is two halves
  const u32 stride = words + 1;    // odd, so that the lanes read their keys from different banks

  extern __shared__ float shared[];
  float* query = shared;                    // (rows, head_dim)
  float* sums = query + rows * head_dim;    // (rows, head_dim): weighted sums of values
  float* largest = sums + rows * head_dim;  // (rows): largest score so far
  float* total = largest + rows;            // (rows): sum of the weights so far
  float* weights = total + rows;            // (WARPS, KEYS)
  __half2* keys = reinterpret_cast<__half2*>(weights + WARPS * KEYS);  // (KEYS, stride)
  __half2* values = keys + KEYS * stride;                              // (KEYS, words)

  // Offset of a query row in `queries` and `out`.
  auto offset_of = [&](u32 row) {
    const u32 index = tile.first + row;
    return ((size_t)(tile.row + index / group) * heads + kv_head * group + index % group) * head_dim;
  };
  auto position_of = [&](u32 row) { return tile.start + (tile.first + row) / group; };

  for (u32 i = threadIdx.x; i < rows * head_dim; i += blockDim.x) {
    query[i] = queries[offset_of(i / head_dim) + i % head_dim] * scale;
    sums[i] = 0.0f;
  }
  for (u32 row = threadIdx.x; row < rows; row += blockDim.x) {
    largest[row] = -INFINITY;
    total[row] = 0.0f;
  }

  const u32 end = position_of(rows - 1) + 1;
  const u32 begin = position_of(0) >= window ? position_of(0) - window + 1 : 0;
  for (u32 position = begin - begin % KEYS; position < end; position += KEYS) {
    const u32 count = min(KEYS, end - position);
    __syncthreads();  // all threads have finished reading the previous keys
    for (u32 i = threadIdx.x; i < count * words; i += blockDim.x) {
      const u32 key = i / words, word = i % words, at = position + key;
      const size_t slot = (size_t)table[tile.table + at / BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS;
      const size_t from = (slot * kv_heads + kv_head) * words + word;
      keys[key * stride + word] = reinterpret_cast<const __half2*>(cached_keys)[from];
      values[key * words + word] = reinterpret_cast<const __half2*>(cached_values)[from];
    }
    __syncthreads();
    for (u32 row = warp; row < rows; row += WARPS) {
      // The row attends to `low..high` of these keys.
      const u32 own = position_of(row);
      const u32 oldest = own >= window ? own - window + 1 : 0;
      const u32 low = oldest > position ? oldest - position : 0;
      const u32 high = own >= position ? min(count, own - position + 1) : 0;
      if (low >= high) continue;  // the same for the whole warp
      float score = -INFINITY;
      if (lane >= low && lane < high) {
        score = 0.0f;
        for (u32 word = 0; word < words; word++) {
          const float2 key = __half22float2(keys[lane * stride + word]);
          score += query[row * head_dim + 2 * word] * key.x + query[row * head_dim + 2 * word + 1] * key.y;
        }
      }
      const float before = largest[row];
      const float now = fmaxf(before, largest_of_warp(score));
      const float factor = expf(before - now);  // 0 at the first keys
      const float weight = lane >= low && lane < high ? expf(score - now) : 0.0f;
      const float sum = sum_of_warp(weight);
      weights[warp * KEYS + lane] = weight;
      if (lane == 0) {
        largest[row] = now;
        total[row] = total[row] * factor + sum;
      }
      __syncwarp();
      // Values outside of `low..high` may be uninitialized, even NaN, so they must not be read.
      for (u32 word = lane; word < words; word += 32) {
        float x = sums[row * head_dim + 2 * word] * factor, y = sums[row * head_dim + 2 * word + 1] * factor;
        for (u32 key = low; key < high; key++) {
          const float2 value = __half22float2(values[key * words + word]);
          x += weights[warp * KEYS + key] * value.x;
          y += weights[warp * KEYS + key] * value.y;
        }
        sums[row * head_dim + 2 * word] = x;
        sums[row * head_dim + 2 * word + 1] = y;
      }
      __syncwarp();  // all lanes have finished reading the weights
    }
  }
  for (u32 row = warp; row < rows; row += WARPS) {
    for (u32 i = lane; i < head_dim; i += 32) out[offset_of(row) + i] = sums[row * head_dim + i] / total[row];
  }
}
