// Records a kernel's accesses to shared memory. With g++ -fsanitize=thread, each access to memory is
// preceded by a call; the functions of g++'s library are replaced by those below. Kernels are
// compiled with -O0, so that frames are linked; this file is optimised, and is linked before them, so
// that its copies of the emulator's functions are used, whose accesses do not call.
#include <dlfcn.h>
#include <pthread.h>
#include "emulator.h"

namespace banks {

typedef std::vector<uint64_t> Place;  // return addresses, from the kernel's caller to the access

struct Loop { Place first, last; uint64_t iterations; };  // last: from where it jumped back so far

// The loops that a thread is in, outermost first. A jump back to a place begins an iteration.
struct Trace { Place at; std::vector<Loop> loops; };

// moment numbers the times at which a warp makes an access: by barriers and shuffles so far, by the
// iterations of all loops around the access, and by place.
struct Access { uint64_t warp, lane, moment, place, caller, offset, bytes; };

static std::vector<Access> accesses;
static std::map<uint64_t, Trace> traces;  // by block and thread
static std::map<Place, uint64_t> moments;
static bool busy = true;  // recording makes accesses, too
static char* host_stack = nullptr;  // of the scheduler, whose accesses do not count
static size_t host_stack_bytes = 0;

static void follow(Trace& trace, const Place& place) {
  auto& loops = trace.loops;
  const bool back = place <= trace.at;
  while (!loops.empty() && (place < loops.back().first || loops.back().last < place)) {
    loops.pop_back();
  }
  if (back && !loops.empty() && loops.back().first == place) {
    loops.back().iterations++;
    loops.back().last = std::max(loops.back().last, trace.at);
  } else if (back) {
    loops.push_back({place, trace.at, 1});
  }
  trace.at = place;
}

static void append(const char* at, uint64_t bytes, void** frame) {
  const emulator::Fiber* fiber = emulator::machine.current;
  const emulator::Block& block = *fiber->block;
  const uint64_t thread = emulator::thread_of(fiber), lane = thread % emulator::WARP_SIZE;
  const dim3& grid = emulator::machine.grid;
  const uint3& index = block.index;
  const uint64_t number = (uint64_t(index.z) * grid.y + index.y) * grid.x + index.x;
  const uint64_t warp = number << 8 | thread / emulator::WARP_SIZE;
  Place place;
  for (void** next = frame; next >= frame && next < frame + emulator::STACK / 8;) {
    place.insert(place.begin(), (uint64_t)next[1]);
    next = (void**)next[0];
  }
  Trace& trace = traces[number << 16 | thread];
  follow(trace, place);
  if (at < block.arena || at >= block.arena + emulator::ARENA) return;
  uint64_t met = block.barrier.opened;
  for (const auto& [key, meeting] : block.warps) {
    met += key.first == int(thread / emulator::WARP_SIZE) ? meeting.opened : 0;
  }
  Place moment = {warp, met};
  for (const Loop& loop : trace.loops) {
    moment.insert(moment.end(), loop.first.begin(), loop.first.end());
    moment.push_back(loop.iterations);
  }
  moment.insert(moment.end(), place.begin(), place.end());
  const uint64_t when = moments.emplace(moment, moments.size()).first->second;
  const uint64_t offset = at - block.arena;
  accesses.push_back({warp, lane, when, place.end()[-1], place.end()[-2], offset, bytes});
}

static void record(void* at, uint64_t bytes, void* frame) {
  const size_t away = (char*)frame - host_stack;
  if (busy || away < host_stack_bytes) return;
  busy = true;
  append((char*)at, bytes, (void**)frame);
  busy = false;
}

void* const linked[] = {(void*)emulator::run, (void*)emulator::barrier, (void*)emulator::meet_lanes};
}  // namespace banks

extern "C" {
#define BANKS_ACCESS(name, ...) \
  void __tsan_##name { \
    banks::record(p, __VA_ARGS__, __builtin_frame_address(0)); \
  }
BANKS_ACCESS(read1(void* p), 1)
BANKS_ACCESS(read2(void* p), 2)
BANKS_ACCESS(read4(void* p), 4)
BANKS_ACCESS(read8(void* p), 8)
BANKS_ACCESS(read16(void* p), 16)
BANKS_ACCESS(write1(void* p), 1)
BANKS_ACCESS(write2(void* p), 2)
BANKS_ACCESS(write4(void* p), 4)
BANKS_ACCESS(write8(void* p), 8)
BANKS_ACCESS(write16(void* p), 16)
BANKS_ACCESS(read_range(void* p, long bytes), bytes)
BANKS_ACCESS(write_range(void* p, long bytes), bytes)
void __tsan_init() {}
char __tsan_atomic8_load(const char* p, int) { return *p; }

const banks::Access* banks_accesses(size_t* count) {
  banks::busy = true;
  *count = banks::accesses.size();
  return banks::accesses.data();
}
void banks_clear() {
  banks::accesses.clear();
  banks::traces.clear();
  banks::moments.clear();
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, (void**)&banks::host_stack, &banks::host_stack_bytes);
  pthread_attr_destroy(&attributes);
  banks::busy = false;
}
uint64_t banks_library(const void* address) {  // the library that holds an address of code
  Dl_info library;
  dladdr(address, &library);
  return (uint64_t)library.dli_fbase;
}
}
