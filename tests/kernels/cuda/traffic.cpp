// What a kernel's loads and stores ask of a card's memory, counted while the emulator runs it.
//
// Kernels compiled by `g++ -O0 -fsanitize=thread` call the functions at the end before each access, which is one access
// as it stands in the text: without optimisation none is joined, split or left out. (But a struct that is assigned from
// numbers in braces is written one by one: let it have a name first.) A site is a place in the code with the calls that
// led there. What the lanes of a warp do at a site for the n-th time since they last met, at a barrier or a shuffle, is
// taken for one request, as a card makes it where lanes go the same way. (In a loop inside a loop, each going round it
// as often as it likes, the n-th may be of different turns.) Accesses of more than 16 bytes are several.
//
//   global    a sector is 32 bytes. A request moves each sector that it touches; at least as many as hold its bytes
//   shared    32 banks of 4 bytes. A request takes as many wavefronts as one bank has words that differ; accesses of 8
//             bytes by half warps, of 16 by quarters, at least one each. ldmatrix is 16 bytes a lane: a row
//
// A byte of an array is read if its first access is a read, and written if it is ever written.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

namespace {

constexpr int LANES = 32, PATH = 12;

struct Array {
    uint64_t begin, end;
    std::vector<char> touched;  // of each byte: 1 read first, 2 written
    bool shared;
};

struct Request {
    uint64_t at[LANES];
    uint32_t active;
};

struct Site {
    uint64_t path[PATH];  // from the access outward
    int depth, size, written, shared;
    uint64_t requests, bytes, moved, least;  // moved, least: sectors or wavefronts
    int turns[LANES];
    std::vector<Request> open;
};

std::vector<Array> arrays;
std::vector<Site> sites;
std::unordered_map<uint64_t, int> known;
std::vector<int> busy;  // sites with open requests
bool counting;
int lane;
uint64_t stack_begin, stack_end;

Array* array_of(uint64_t at) {
    for (Array& array : arrays)
        if (array.begin <= at && at < array.end) return &array;
    return nullptr;
}

int distinct(uint64_t* values, int n) {
    std::sort(values, values + n);
    return std::unique(values, values + n) - values;
}

void close_global(Site& site, const Request& request) {
    uint64_t sectors[2 * LANES], bytes[16 * LANES];
    int n = 0, m = 0;
    for (int i = 0; i < LANES; i++) {
        if (!(request.active >> i & 1)) continue;
        uint64_t first = request.at[i], last = first + site.size - 1;
        sectors[n++] = first / 32, sectors[n++] = last / 32;
        for (uint64_t b = first; b <= last; b++) bytes[m++] = b;
        site.bytes += site.size;
    }
    site.moved += distinct(sectors, n);
    site.least += (distinct(bytes, m) + 31) / 32;
}

void close_shared(Site& site, const Request& request) {
    int group = site.size <= 4 ? 32 : site.size == 8 ? 16 : 8;
    for (int begin = 0; begin < LANES; begin += group) {
        uint64_t words[4 * LANES];
        int n = 0, in_bank[32] = {}, most = 0;
        for (int i = begin; i < begin + group; i++) {
            if (!(request.active >> i & 1)) continue;
            for (uint64_t w = request.at[i] / 4; w <= (request.at[i] + site.size - 1) / 4; w++) words[n++] = w;
            site.bytes += site.size;
        }
        if (n == 0) continue;
        n = distinct(words, n);
        for (int i = 0; i < n; i++) most = std::max(most, ++in_bank[words[i] % 32]);
        site.moved += most, site.least += (n + 31) / 32;
    }
}

Site& site_of(void** frame, int piece, int size, int written, int shared) {
    uint64_t path[PATH], key = 1469598103934665603u ^ (piece << 8 | size << 2 | written << 1 | shared);
    int depth = 0;
    for (; depth < PATH; depth++) {
        path[depth] = (uint64_t)frame[1];
        key = (key ^ path[depth]) * 1099511628211u;
        key ^= key >> 29;
        frame = (void**)frame[0];
        if ((uint64_t)frame < stack_begin || (uint64_t)frame + 16 > stack_end) break;
    }
    auto [place, fresh] = known.try_emplace(key, (int)sites.size());
    if (fresh) {
        Site site = {};
        std::copy(path, path + PATH, site.path);
        site.depth = std::min(depth, PATH), site.size = size, site.written = written, site.shared = shared;
        sites.push_back(site);
    }
    return sites[place->second];
}

void see(void** frame, uint64_t at, int size, int written) {
    if (!counting || (stack_begin <= at && at < stack_end)) return;
    Array* array = array_of(at);
    if (!array) return;
    for (int piece = 0; 16 * piece < size; piece++) {
        int part = std::min(size - 16 * piece, 16);
        Site& site = site_of(frame, piece, part, written, array->shared);
        int turn = site.turns[lane]++;
        if (site.open.empty()) busy.push_back(&site - sites.data());
        if ((int)site.open.size() <= turn) site.open.resize(turn + 1);
        site.open[turn].at[lane] = at + 16 * piece;
        site.open[turn].active |= 1u << lane;
    }
    if (array->shared) return;
    for (uint64_t b = at - array->begin; b < std::min(at + size, array->end) - array->begin; b++)
        array->touched[b] |= written ? 2 : array->touched[b] ? 0 : 1;
}

}  // namespace

// ---- what Python calls ----

extern "C" void traffic_begin() {
    arrays.clear(), sites.clear(), known.clear(), busy.clear();
    counting = true;
}

extern "C" void traffic_array(uint64_t begin, uint64_t bytes) {
    arrays.push_back({begin, begin + bytes, std::vector<char>(bytes), false});
}

extern "C" void traffic_end() { counting = false; }

// read, written: bytes of array i
extern "C" void traffic_bytes(int i, uint64_t* read, uint64_t* written) {
    *read = *written = 0;
    for (char c : arrays[i].touched) *read += c & 1, *written += c >> 1;
}

extern "C" int traffic_sites() { return sites.size(); }

// size, written, shared, requests, bytes, moved, least, depth, path
extern "C" void traffic_site(int i, uint64_t* out) {
    const Site& s = sites[i];
    uint64_t row[8] = {(uint64_t)s.size, (uint64_t)s.written, (uint64_t)s.shared, s.requests, s.bytes, s.moved, s.least,
                       (uint64_t)s.depth};
    std::copy(row, row + 8, out);
    std::copy(s.path, s.path + PATH, out + 8);
}

// ---- what the emulator calls ----

extern "C" void traffic_shared(const void* begin, size_t bytes) {
    if (!counting || bytes == 0) return;
    uint64_t first = (uint64_t)begin, end = first + bytes;
    for (Array& array : arrays)
        if (array.shared && array.begin < end && first < array.end) array.end = array.begin;
    arrays.push_back({first, end, {}, true});
}

extern "C" void traffic_thread(int thread, const void* stack, size_t bytes) {
    lane = thread % LANES, stack_begin = (uint64_t)stack, stack_end = stack_begin + bytes;
}

// The lanes of a warp have met: what they did before belongs together, and nothing that comes after does.
extern "C" void traffic_meet() {
    for (int i : busy) {
        Site& site = sites[i];
        for (const Request& request : site.open) {
            if (!request.active) continue;
            site.requests++;
            site.shared ? close_shared(site, request) : close_global(site, request);
        }
        site.open.clear();
        std::memset(site.turns, 0, sizeof site.turns);
    }
    busy.clear();
}

#define FRAME ((void**)__builtin_frame_address(0))

extern "C" void traffic_sees(const void* at, int size, int written) { see(FRAME, (uint64_t)at, size, written); }

// ---- what the compiled kernels call ----

#define ACCESS(size)                                                                             \
    extern "C" void __tsan_read##size(void* at) { see(FRAME, (uint64_t)at, size, 0); }           \
    extern "C" void __tsan_write##size(void* at) { see(FRAME, (uint64_t)at, size, 1); }          \
    extern "C" void __tsan_unaligned_read##size(void* at) { see(FRAME, (uint64_t)at, size, 0); } \
    extern "C" void __tsan_unaligned_write##size(void* at) { see(FRAME, (uint64_t)at, size, 1); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
extern "C" void __tsan_read_range(void* at, size_t size) { see(FRAME, (uint64_t)at, size, 0); }
extern "C" void __tsan_write_range(void* at, size_t size) { see(FRAME, (uint64_t)at, size, 1); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
