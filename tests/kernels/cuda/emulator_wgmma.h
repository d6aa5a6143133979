// Products by warpgroups in the emulator: what wgmma.cuh is made of there. Part of emulator.h.
//
// A product reads shared memory from when it begins until it is waited for. Here it reads twice: when it begins, where
// a copy that has not come leaves NaN, and when its group is waited for, where what has changed is a fault. Its sums
// are NaN in between. Faults are also:
//
//   a number that a copy wrote, whose thread did not pass the fence (reach_products) after waiting for the copy
//   a descriptor with another swizzle than that of 128 bytes, or that leads out of shared memory, or that the lanes of
//   a warp do not share

namespace emulator {

// Dynamic shared memory begins at this address: at a multiple of 16, and of no more.
constexpr int FIRST_ADDRESS = 1040;

[[noreturn]] static void stop(const char* why) {
    fault = why;
    _longjmp(scheduler, 1);
}

struct Sums {
    float* at;
    std::vector<float> real;
    int group;  // of the last product that adds to them
};

struct Seen {
    const unsigned short* at;
    unsigned short number;
    int group;
};

struct Products {  // of a thread
    std::vector<Sums> sums;
    std::vector<Seen> seen;
    int groups = 0;
    std::vector<size_t> landed;  // where its copies have come since it passed the fence
};

static std::vector<Products> products;
static std::vector<char> unfenced;  // for each 16 bytes of dynamic shared memory, whether such a copy wrote them

static void begin_products(int first, int threads) {
    if (products.size() < first + threads) products.resize(first + threads);
    for (int i = first; i < first + threads; i++) products[i] = {};
    unfenced.assign(dynamic.size() / 16 + 1, 0);
}

static void copy_has_come(const void* to) {
    size_t place = (const char*)to - dynamic.data();
    if (place >= dynamic.size()) return;
    unfenced[place / 16] = 1;
    products[current].landed.push_back(place / 16);
}

// A matrix in shared memory as its descriptor names it (PTX ISA, "Canonical layouts", 128-byte swizzle).
struct Matrix {
    uint64_t descriptor;
    bool across;

    // Where number k of line `line` lies.
    const unsigned short* operator()(int line, int k) const {
        int first = (descriptor & 0x3FFF) << 4, leading = (descriptor >> 16 & 0x3FFF) << 4;
        int stride = (descriptor >> 32 & 0x3FFF) << 4;
        int offset = across ? line % 64 * 2 + line / 64 * leading + k % 8 * 128 + k / 8 * stride
                            : k * 2 + line % 8 * 128 + line / 8 * stride;
        int address = first + offset;
        address ^= (address >> 7 & 7) << 4;
        const char* at = own_dynamic + (address - FIRST_ADDRESS);
        size_t place = at - dynamic.data();
        if (place >= dynamic.size()) stop("a descriptor that leads out of shared memory");
        if (unfenced[place / 16]) stop("a product that reads what a copy wrote, before its thread passed the fence");
        return (const unsigned short*)at;
    }
};

}  // namespace emulator

static inline unsigned emulator_shared_address(const void* p) {
    return (unsigned)((const char*)p - emulator::own_dynamic) + emulator::FIRST_ADDRESS;
}

static inline void emulator_reach_products() {
    using namespace emulator;
    for (size_t i : products[current].landed) unfenced[i] = 0;
    products[current].landed.clear();
}

template <int N, class H>
__attribute__((optimize("O2"))) UNSEEN static void emulator_wgmma(float (&c)[N / 8][4], uint64_t left, uint64_t right,
                                                           bool left_across, bool right_across, H half) {
    using namespace emulator;
    if (emulator_shuffle(left, 0) != left || emulator_shuffle(right, 0) != right)
        stop("a descriptor that the lanes of a warp do not share");
    for (uint64_t descriptor : {left, right})
        if (descriptor >> 46 != 1 << 16) stop("a descriptor of another kind than the 128-byte swizzle");
    Products& own = products[current];
    Sums* sums = nullptr;
    for (Sums& known : own.sums)
        if (known.at == &c[0][0]) sums = &known;
    if (!sums) {
        own.sums.push_back({&c[0][0], std::vector<float>(&c[0][0], &c[0][0] + N / 2), 0});
        sums = &own.sums.back();
        for (int i = 0; i < N / 2; i++) (&c[0][0])[i] = NAN;
    }
    sums->group = own.groups;
    Matrix a{left, left_across}, b{right, right_across};
    int lane = current % 32, row = threadIdx.x % 128 / 32 * 16 + lane / 4;
    float rows[2][16], column[16];
    auto read = [&](const Matrix& matrix, int line, float (&to)[16]) {
        for (int k = 0; k < 16; k++) {
            const unsigned short* at = matrix(line, k);
            own.seen.push_back({at, *at, own.groups});
            to[k] = half((unsigned)*at, 0);
        }
    };
    for (int lower = 0; lower < 2; lower++) read(a, row + 8 * lower, rows[lower]);
    for (int i = 0; i < N / 8; i++)
        for (int e = 0; e < 2; e++) {
            read(b, 8 * i + lane % 4 * 2 + e, column);
            for (int lower = 0; lower < 2; lower++)
                for (int k = 0; k < 16; k++) sums->real[4 * i + 2 * lower + e] += rows[lower][k] * column[k];
        }
}

static inline void emulator_wgmma_commit() { emulator::products[emulator::current].groups++; }

__attribute__((optimize("O2"))) UNSEEN static void emulator_wgmma_wait(int newest) {
    using namespace emulator;
    Products& own = products[current];
    int done = own.groups - newest;
    std::vector<Seen> left;
    for (const Seen& seen : own.seen)
        if (seen.group >= done) left.push_back(seen);
        else if (*seen.at != seen.number) stop("shared memory that is written while a product still reads it");
    own.seen.swap(left);
    for (size_t i = own.sums.size(); i-- > 0;)
        if (own.sums[i].group < done) {
            memcpy(own.sums[i].at, own.sums[i].real.data(), 4 * own.sums[i].real.size());
            own.sums.erase(own.sums.begin() + i);
        }
}
