// Runs CUDA C++ on the CPU: every CUDA thread is a fiber, and all fibers run on one system thread.
//
// A fiber runs until it waits (at a barrier or a shuffle), then others run. So a launch is
// deterministic for a seed, and each seed selects an order in which a GPU may run the threads: 0 in
// order, 1 in reverse order, others random and unfair, where one warp runs ahead as far as it can.
// Each block has its own shared memory, between guard zones and filled with NaN.
//
// Detected, with a message: threads that wait forever, at different barriers or shuffles, or for
// lanes that never come; a shuffle with a lane outside its mask; a write outside the shared arrays;
// an address without the alignment that the source promises; more shared memory than there is.
// Detected as NaN in the results: reads of shared memory before it is written, and reads next to a
// shared array. Detected as wrong numbers: races, if a tested order shows them. emulator.py adds
// the arrays in global memory: writes outside and to const arrays, and NaN for reads outside.
//
// Not detected: races that no tested order shows; a missing fence or volatile (memory accesses are
// in order here); an access beyond the guard zones; a GPU's rounding (fused multiply-add, the sum
// inside a tensor core); and costs: divergent warps, bank conflicts, register spills.
#pragma once
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };

namespace emulator {

constexpr size_t STACK = 64 << 10, ZONE = 64, STATIC = 48 << 10, ARENA = 320 << 10;
constexpr int WARP_SIZE = 32;

struct Launch { unsigned grid[3], threads, dynamic, seed, resident; };

// A barrier or shuffle. Each thread brings eight bytes; the last to arrive releases all threads.
struct Meeting { int arrived = 0, line = 0; unsigned opened = 0; uint64_t brought[32], shown[32]; };

struct Block {
  uint3 index; int live; char* arena; Meeting barrier;
  std::map<std::pair<int, unsigned>, Meeting> warps;  // by warp and mask
};

struct Fiber {
  jmp_buf here; ucontext_t start; uint3 index; Block* block;
  bool begun = false, done = false;
  const unsigned* waits_for = nullptr; unsigned old = 0; int line = 0; const char* reason = "";
};

struct Machine {
  Launch launch; dim3 grid, block; jmp_buf scheduler; Fiber* current;
  std::function<void()> body; std::string error; std::mt19937 random;
  std::map<const void*, std::pair<size_t, size_t>> shared;  // offset and bytes of each array
  size_t used; long progress;  // progress counts arrivals at meetings and ends of threads
};
inline Machine machine;
inline std::vector<char*> stacks, arenas;

// ---- fibers: _setjmp and _longjmp switch without a system call

inline void suspend() {
  if (!_setjmp(machine.current->here)) _longjmp(machine.scheduler, 1);
}
inline void resume(Fiber* fiber) {
  machine.current = fiber;
  if (_setjmp(machine.scheduler)) return;
  if (fiber->begun) _longjmp(fiber->here, 1);
  fiber->begun = true;
  setcontext(&fiber->start);
}
inline unsigned thread_of(const Fiber* fiber) { return fiber->index.x; }
inline bool same_warp(const Fiber* a, const Fiber* b) {
  return a->block == b->block && thread_of(a) / WARP_SIZE == thread_of(b) / WARP_SIZE;
}

[[noreturn]] inline void fail(const std::string& message) {
  const Fiber* fiber = machine.current;
  machine.error = message + " (block " + std::to_string(fiber->block->index.x) + "," +
      std::to_string(fiber->block->index.y) + ", thread " + std::to_string(thread_of(fiber)) + ")";
  _longjmp(machine.scheduler, 1);
}
inline std::string at(int line) { return "line " + std::to_string(line); }

// ---- barriers and shuffles

inline void open(Meeting& meeting) {
  memcpy(meeting.shown, meeting.brought, sizeof meeting.shown);
  meeting.arrived = 0;
  meeting.opened++;
}
inline void meet(Meeting& meeting, int wanted, int line, const char* reason) {
  Fiber* fiber = machine.current;
  if (meeting.arrived && meeting.line != line) {
    fail(std::string("threads of one ") + reason + " at " + at(line) + " and " + at(meeting.line));
  }
  meeting.line = line;
  machine.progress++;
  if (++meeting.arrived == wanted) return open(meeting);
  fiber->waits_for = &meeting.opened;
  fiber->old = meeting.opened;
  fiber->line = line;
  fiber->reason = reason;
  while (meeting.opened == fiber->old) suspend();
  fiber->waits_for = nullptr;
}
inline void barrier(int line) {
  Block* block = machine.current->block;
  meet(block->barrier, block->live, line, "barrier");
}
inline int lanes_of(int warp) {
  return std::min<int>(WARP_SIZE, machine.block.x - warp * WARP_SIZE);
}
inline int lane() { return thread_of(machine.current) % WARP_SIZE; }
inline const uint64_t* meet_lanes(unsigned mask, uint64_t value, int line) {
  const int warp = thread_of(machine.current) / WARP_SIZE, lane = emulator::lane();
  const int lanes = lanes_of(warp);
  const unsigned there = lanes == WARP_SIZE ? ~0u : (1u << lanes) - 1;
  if (!(mask >> lane & 1)) fail("a lane shuffles that is not in its mask, " + at(line));
  Meeting& meeting = machine.current->block->warps[{warp, mask}];
  meeting.brought[lane] = value;
  meet(meeting, __builtin_popcount(mask & there), line, "shuffle");
  return meeting.shown;
}
template <class T> T shuffle(unsigned mask, T value, int from, int line) {
  static_assert(sizeof(T) <= 8, "a shuffle takes 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  const uint64_t* shown = meet_lanes(mask, bits, line);
  if (from < 0 || from >= lanes_of(thread_of(machine.current) / WARP_SIZE)) return value;
  if (!(mask >> from & 1)) fail("a shuffle reads a lane that is not in its mask, " + at(line));
  memcpy(&value, &shown[from], sizeof value);
  return value;
}

// ---- tensor cores: d += a @ b of a warp, 16 x 8 by 8 x 8, of operands truncated to TF32

inline float bits_to_float(unsigned bits) { float v; memcpy(&v, &bits, 4); return v; }
inline unsigned float_to_bits(float v) { unsigned bits; memcpy(&bits, &v, 4); return bits; }
inline float cut_to_tf32(float v) { return bits_to_float(float_to_bits(v) & 0xffffe000u); }
struct Fragments { const float* a; const float* b; };  // of one lane

inline void multiply_add(float (&d)[4], const float (&a)[4], const float (&b)[2], int line) {
  const Fragments mine = {a, b};
  const uint64_t* shown = meet_lanes(0xffffffffu, (uint64_t)&mine, line);
  const int group = emulator::lane() / 4, own = emulator::lane() % 4;
  float sums[4];
  for (int r = 0; r < 4; r++) {
    const int row = group + 8 * (r / 2), column = 2 * own + r % 2;
    sums[r] = d[r];
    for (int k = 0; k < 8; k++) {
      const Fragments* left = (const Fragments*)shown[row % 8 * 4 + k % 4];
      const Fragments* right = (const Fragments*)shown[column * 4 + k % 4];
      sums[r] += cut_to_tf32(left->a[row / 8 + 2 * (k / 4)]) * cut_to_tf32(right->b[k / 4]);
    }
  }
  meet_lanes(0xffffffffu, 0, line);  // a lane waits until all have read its fragments
  memcpy(d, sums, sizeof sums);
}
inline unsigned ballot(unsigned mask, int vote, int line) {
  const uint64_t* shown = meet_lanes(mask, vote != 0, line);
  unsigned votes = 0;
  for (int i = 0; i < lanes_of(thread_of(machine.current) / WARP_SIZE); i++) {
    if (mask >> i & 1) votes |= unsigned(shown[i] & 1) << i;
  }
  return votes;
}

// ---- memory

inline void* shared_array(const void* key, size_t bytes, size_t align, bool dynamic) {
  auto found = machine.shared.find(key);
  if (found == machine.shared.end()) {
    const size_t start = (machine.used + ZONE + align - 1) / align * align;
    if (!dynamic && start + bytes > STATIC + machine.launch.dynamic) {
      fail("static shared memory above 48 KB");
    }
    if (start + bytes + ZONE > ARENA) fail("more shared memory than any GPU has");
    found = machine.shared.emplace(key, std::make_pair(start, bytes)).first;
    machine.used = start + bytes;
  }
  return machine.current->block->arena + found->second.first;
}
template <class T, int ID> T& shared() {
  static char key;
  return *(T*)shared_array(&key, sizeof(T), 16, false);
}
template <class T> T* dynamic_shared() {
  static char key;
  return (T*)shared_array(&key, machine.launch.dynamic, 16, true);
}
inline void* aligned(const void* p, size_t bytes) {
  if ((uintptr_t)p % bytes) {
    fail("an address is not a multiple of " + std::to_string(bytes) + " bytes");
  }
  return (void*)p;
}
inline bool wrote_outside(const Block& block) {  // then refills shared arrays with NaN
  for (const auto& [key, place] : machine.shared) {
    memset(block.arena + place.first, 0xff, place.second);
  }
  const uint64_t* words = (const uint64_t*)block.arena;
  return !std::all_of(words, words + ARENA / 8, [](uint64_t word) { return word == ~0ull; });
}

// ---- the scheduler

inline void entry() {
  machine.body();
  Block* block = machine.current->block;
  machine.current->done = true;
  machine.progress++;
  block->live--;  // finished threads count as arrived at every barrier
  if (block->barrier.arrived && block->barrier.arrived == block->live) open(block->barrier);
  _longjmp(machine.scheduler, 1);
}
struct Slot { Block block; std::vector<Fiber> fibers; bool busy = false; };

inline void start(Slot& slot, size_t place, long number) {
  const dim3& grid = machine.grid;
  const unsigned threads = machine.block.x;
  slot.busy = true;
  slot.block = Block();
  const long row = number / grid.x;
  slot.block.index = {unsigned(number % grid.x), unsigned(row % grid.y), unsigned(row / grid.y)};
  slot.block.live = threads;
  slot.block.arena = arenas[place];
  slot.fibers = std::vector<Fiber>(threads);
  for (unsigned t = 0; t < threads; t++) {
    Fiber& fiber = slot.fibers[t];
    fiber.index = {t, 0, 0};
    fiber.block = &slot.block;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = stacks[place * threads + t];
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, entry, 0);
  }
}
inline void provide(size_t slots) {
  while (stacks.size() < slots * machine.block.x) {
    const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    stacks.push_back((char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, kind, -1, 0));
  }
  while (arenas.size() < slots) {
    arenas.push_back((char*)aligned_alloc(128, ARENA));
    memset(arenas.back(), 0xff, ARENA);  // NaN in float and double
  }
}
inline std::string run(const Launch& launch, std::function<void()> body) {
  machine.launch = launch;
  machine.grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
  machine.block = {launch.threads, 1, 1};
  machine.body = body;
  machine.error.clear();
  machine.shared.clear();
  machine.used = machine.progress = 0;
  machine.random.seed(launch.seed);
  std::vector<long> order((long)launch.grid[0] * launch.grid[1] * launch.grid[2]);
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  if (launch.seed) std::shuffle(order.begin(), order.end(), machine.random);
  std::vector<Slot> slots(launch.resident);
  provide(slots.size());
  std::vector<Fiber*> turn;
  const Fiber* ahead = nullptr;  // the warp that runs before all others
  for (size_t next = 0, left = order.size(); left;) {
    for (size_t s = 0; s < slots.size(); s++) {
      if (!slots[s].busy && next < order.size()) start(slots[s], s, order[next++]);
    }
    turn.clear();
    for (Slot& slot : slots) {
      for (Fiber& fiber : slot.fibers) if (slot.busy && !fiber.done) turn.push_back(&fiber);
    }
    if (launch.seed == 1) std::reverse(turn.begin(), turn.end());
    if (launch.seed > 1) std::shuffle(turn.begin(), turn.end(), machine.random);
    const long before = machine.progress;
    const Fiber* stuck = nullptr;
    const auto resume_all = [&](const Fiber* only) {  // all threads, or those of only's warp
      for (Fiber* fiber : turn) {
        if (only && !same_warp(fiber, only)) continue;
        if (!fiber->waits_for || *fiber->waits_for != fiber->old) resume(fiber);
        if (!machine.error.empty()) break;
        if (!fiber->done) stuck = fiber;
      }
    };
    if (launch.seed > 1) {
      const bool there = std::find(turn.begin(), turn.end(), ahead) != turn.end();
      if (!there) ahead = turn[machine.random() % turn.size()];
      resume_all(ahead);
    }
    if (machine.error.empty() && machine.progress == before) {
      resume_all(nullptr);
      ahead = nullptr;
    }
    if (machine.error.empty() && machine.progress == before) {
      machine.error = "threads wait for ever: ";
      machine.error += stuck->reason + (", " + at(stuck->line));
    }
    for (Slot& slot : slots) {
      if (!slot.busy || (slot.block.live && machine.error.empty())) continue;
      slot.busy = false;
      left--;
      if (wrote_outside(slot.block) && machine.error.empty()) {
        machine.error = "wrote outside the shared arrays";
      }
    }
    if (!machine.error.empty()) {
      for (char* arena : arenas) memset(arena, 0xff, ARENA);
      return machine.error;
    }
  }
  return "";
}
}  // namespace emulator

#define threadIdx (emulator::machine.current->index)
#define blockIdx (emulator::machine.current->block->index)
#define blockDim (emulator::machine.block)
#define gridDim (emulator::machine.grid)
#define __syncthreads() emulator::barrier(__LINE__)
#define __syncwarp() emulator::meet_lanes(0xffffffffu, 0, __LINE__)
#define __shfl_sync(mask, value, from) emulator::shuffle(mask, value, from, __LINE__)
#define __shfl_xor_sync(mask, value, away) \
  emulator::shuffle(mask, value, emulator::lane() ^ (away), __LINE__)
#define __shfl_down_sync(mask, value, away) \
  emulator::shuffle(mask, value, emulator::lane() + (away), __LINE__)
#define __ballot_sync(mask, vote) emulator::ballot(mask, vote, __LINE__)
#define ALIGNED(p, bytes) emulator::aligned(p, bytes)
template <class T> T atomicAdd(T* p, T value) {  // fibers switch only at barriers and shuffles
  return std::exchange(*p, T(*p + value));
}
template <class T> T atomicMax(T* p, T value) { return std::exchange(*p, std::max(*p, value)); }
inline unsigned __float_as_uint(float v) { return emulator::float_to_bits(v); }
inline float __uint_as_float(unsigned bits) { return emulator::bits_to_float(bits); }
using std::exp, std::max, std::min, std::sqrt, std::tanh;
