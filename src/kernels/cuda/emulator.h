// Runs CUDA kernels on the CPU, for the tests: one thread block after another, its threads as coroutines that switch at
// barriers. It detects threads that wait at different barriers and, because threads can run in two orders, most missing
// barriers.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __syncwarp() emulator::wait(emulator::AT_WARP)
#define __syncthreads() emulator::wait(emulator::AT_BLOCK)

using std::max;
using std::min;

struct Index {
  unsigned x, y;
};
static Index gridDim, blockDim, blockIdx, threadIdx;
// The shared memory that a thread block may use without opting in to more.
static float shared[48 * 1024 / sizeof(float)];

namespace emulator {

enum State { RUNS, AT_WARP, AT_BLOCK, DONE };
struct Thread {
  ucontext_t context;
  State state;
  std::vector<char> stack;
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static std::function<void()> kernel;
static float exchanged[1024];

static void wait(State barrier) {
  Thread& self = threads[threadIdx.x];
  self.state = barrier;
  swapcontext(&self.context, &scheduler);
}

static void enter() {
  kernel();
  threads[threadIdx.x].state = DONE;
}

// Releases threads `from..to` if all of them that are not done wait at `barrier`. Returns true if it released any.
static bool release(unsigned from, unsigned to, State barrier) {
  bool any = false;
  for (unsigned t = from; t < to; t++) {
    if (threads[t].state != DONE && threads[t].state != barrier) return false;
    any |= threads[t].state == barrier;
  }
  for (unsigned t = from; t < to; t++)
    if (threads[t].state == barrier) threads[t].state = RUNS;
  return any;
}

static void run_block(bool backwards) {
  const unsigned count = blockDim.x;
  threads.resize(count);
  memset(shared, 0xff, sizeof shared);  // NaN, so that reads of uninitialized memory become visible
  for (Thread& thread : threads) {
    thread.stack.resize(64 * 1024);
    thread.state = RUNS;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, enter, 0);
  }
  for (;;) {
    for (unsigned i = 0; i < count; i++) {
      threadIdx.x = backwards ? count - 1 - i : i;
      Thread& thread = threads[threadIdx.x];
      if (thread.state == RUNS) swapcontext(&scheduler, &thread.context);
    }
    bool released = release(0, count, AT_BLOCK);
    for (unsigned t = 0; t < count; t += 32) released |= release(t, min(t + 32, count), AT_WARP);
    if (released) continue;
    for (const Thread& thread : threads) {
      if (thread.state != DONE) {
        fprintf(stderr, "threads wait at different barriers\n");
        exit(1);
      }
    }
    return;
  }
}

static void launch(Index grid, unsigned block, bool backwards, std::function<void()> call) {
  kernel = call;
  gridDim = grid;
  blockDim = {block, 1};
  for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) run_block(backwards);
}

}  // namespace emulator

static float __shfl_xor_sync(unsigned, float x, unsigned step) {
  emulator::exchanged[threadIdx.x] = x;
  __syncwarp();
  const float other = emulator::exchanged[threadIdx.x ^ step];
  __syncwarp();
  return other;
}

static uint32_t __float_as_uint(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// 16-bit floats: IEEE 754 binary16, rounded to nearest with ties to even.
struct __half {
  uint16_t bits;
};
struct __half2 {
  __half x, y;
};
struct float2 {
  float x, y;
};

static float __half2float(__half h) {
  const int exponent = h.bits >> 10 & 31, fraction = h.bits & 1023;
  const float sign = h.bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24));
}

static __half __float2half(float x) {
  const uint16_t sign = signbit(x) ? 0x8000 : 0;
  if (isnan(x)) return {(uint16_t)(sign | 0x7e00)};
  if (fabsf(x) >= 65520.0f) return {(uint16_t)(sign | 0x7c00)};
  int exponent;
  frexpf(x, &exponent);                  // |x| in [2^(exponent - 1), 2^exponent)
  exponent = std::max(exponent, -13);    // smaller ones are subnormal
  const int fraction = (int)rintf(ldexpf(fabsf(x), 11 - exponent));  // may carry into the exponent
  return {(uint16_t)(sign | ((exponent + 13) * 1024 + fraction))};
}

static float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
