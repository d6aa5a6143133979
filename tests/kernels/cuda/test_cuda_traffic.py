"""The counter of memory traffic on kernels of known answers, and what it finds in the families that promise most."""

import numpy as np
import pytest

from minigen.kernels.cuda import compile

pytestmark = pytest.mark.kernels
F = np.dtype(np.float32)
KNOWN = """
INLINE int me() { return threadIdx.x; }
KERNEL copies(const float* x, float* y) { y[me()] = x[me()]; }
KERNEL copies_one_further(const float* x, float* y) { y[me()] = x[me() + 1]; }
KERNEL reads_every_second(const float* x, float* y) { y[me()] = x[2 * me()]; }
KERNEL reads_one_of_32(const float* x, float* y) { y[me()] = x[32 * me()]; }
KERNEL reads_the_same(const float* x, float* y) { y[me()] = x[0]; }
KERNEL copies_packs(const float* x, float* y) {
    float v[PACK];
    load(v, x, my_pack(), 1024);
    store(y, my_pack(), 1024, v);
}
KERNEL reads_half_of_each_sector(const float* x, float* y) {
    Pack<float> pack = *(const Pack<float>*)(x + 8 * me());
    y[me()] = pack.at[0];
}
KERNEL loops_as_often_as_it_likes(const float* x, float* y) {
    for (int i = 0; i < me() % 4; i++) y[64 * i + me()] = x[64 * i + me()];
}
KERNEL changes_in_place(const float* x, float* y) { y[me()] += x[me()]; }
KERNEL writes_and_reads(const float* x, float* y) {
    y[me()] = 1;
    y[me()] += 1;
}
KERNEL reads_16_bits(const bfloat16* x, float* y) { y[me()] = widen(x[me()]); }
template <int WIDTH> INLINE void turn(const float* x, float* y) {
    __shared__ float square[32][WIDTH];
    for (int i = warp(); i < 32; i += 2) square[i][lane()] = x[32 * i + lane()];
    __syncthreads();
    for (int i = warp(); i < 32; i += 2) y[32 * i + lane()] = square[lane()][i];
}
KERNEL turns(const float* x, float* y) { turn<32>(x, y); }
KERNEL turns_padded(const float* x, float* y) { turn<33>(x, y); }
template <int BYTES, int APART> INLINE void share(float* y) {
    typedef Pack<float, BYTES / 4> Piece;
    alignas(16) __shared__ float all[64 * APART];
    Piece piece = {};
    *(Piece*)(all + APART * me()) = piece;
    y[me()] = all[0];
}
KERNEL shares_4(const float* x, float* y) { share<4, 1>(y); }
KERNEL shares_4_of_8(const float* x, float* y) { share<4, 2>(y); }
KERNEL shares_8(const float* x, float* y) { share<8, 2>(y); }
KERNEL shares_8_of_16(const float* x, float* y) { share<8, 4>(y); }
KERNEL shares_16(const float* x, float* y) { share<16, 4>(y); }
KERNEL shares_16_of_32(const float* x, float* y) { share<16, 8>(y); }
template <int PITCH> INLINE void fragments(float* y) {
    alignas(16) __shared__ unsigned short rows[16 * PITCH];
    for (int i = me(); i < 16 * PITCH; i += 64) rows[i] = 0;
    __syncthreads();
    u32 r[4];
    ldmatrix(r, rows + lane() % 16 * PITCH + lane() / 16 * 8);
    y[me()] = r[0];
}
KERNEL fragments_of_32(const float* x, float* y) { fragments<32>(y); }
KERNEL fragments_padded(const float* x, float* y) { fragments<40>(y); }
KERNEL brings(const float* x, float* y) {
    alignas(16) __shared__ float all[256];
    copy_async(all + 4 * me(), x + 4 * me(), true);
    copy_async_commit();
    copy_async_wait<0>();
    y[me()] = all[4 * me()];
}
KERNEL counts(const float* x, float* y) {
    __shared__ int count[64];
    atomicAdd(&count[me()], 1);
}
"""


@pytest.fixture(scope="session")
def counter(tmp_path_factory, emulator):  # the emulator skips where there is no g++
    import traffic

    return traffic.Counter(tmp_path_factory.mktemp("counter"))


@pytest.fixture(scope="module")
def run(counter):
    source = compile.Source("known.cu")
    source.text = "".join((compile.HERE / name).read_text() for name in ("common.cuh", "mma.cuh")) + KNOWN

    def run(name, x=None):
        """Two warps of one block: their launch."""
        counter.launches = []
        x = np.zeros(4096, F) if x is None else x
        with compile.running_on(counter):
            source.run(name, (F,), 1, 64, x, np.zeros(1024, F))
        return counter.launches[0]

    return run


def requests(launch, shared=False, written=None):
    """(requests, moved, least) of one kind, of both warps."""
    sites = [s for s in launch.sites if s.shared == shared and written in (None, s.written)]
    return tuple(sum(getattr(s, name) for s in sites) for name in ("requests", "moved", "least"))


@pytest.mark.parametrize(
    "name, read, written",
    [
        ("copies", (2, 8, 8), (2, 8, 8)),
        ("copies_one_further", (2, 10, 8), (2, 8, 8)),
        ("reads_every_second", (2, 16, 8), (2, 8, 8)),
        ("reads_one_of_32", (2, 64, 8), (2, 8, 8)),
        ("reads_the_same", (2, 2, 2), (2, 8, 8)),
        ("copies_packs", (2, 32, 32), (2, 32, 32)),
        ("reads_half_of_each_sector", (2, 64, 32), (2, 8, 8)),
        ("loops_as_often_as_it_likes", (6, 24, 12), (6, 24, 12)),
        ("brings", (2, 32, 32), (2, 8, 8)),
    ],
)
def test_sectors(run, name, read, written):
    launch = run(name)
    assert requests(launch, written=False) == read
    assert requests(launch, written=True) == written


def test_each_byte_is_counted_once(run):
    assert run("copies").arrays == [(256, 0), (0, 256)]
    assert run("reads_the_same").arrays == [(4, 0), (0, 256)]
    assert run("changes_in_place").arrays == [(256, 0), (256, 256)]
    assert run("writes_and_reads").arrays == [(0, 0), (0, 256)]
    assert run("loops_as_often_as_it_likes").arrays == [(384, 0), (0, 384)]
    assert run("copies_packs").bytes == 2048


def test_numbers_of_16_bits_are_seen(run):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    launch = run("reads_16_bits", np.zeros(64, ml_dtypes.bfloat16))
    assert launch.arrays[0] == (128, 0) and requests(launch, written=False) == (2, 4, 4)


def test_an_array_stands_where_it_stands_in_its_buffer(run):
    assert requests(run("copies", np.zeros(100, F)[3:]), written=False) == (2, 10, 8)
    assert requests(run("copies", np.zeros(100, F)[8:]), written=False) == (2, 8, 8)


@pytest.mark.parametrize(
    "name, moved, least",
    [
        ("turns", 32 + 32 * 32, 64),  # read down a column: 32 wavefronts
        ("turns_padded", 64, 64),
        ("shares_4", 2, 2),
        ("shares_4_of_8", 4, 2),
        ("shares_8", 4, 4),
        ("shares_8_of_16", 8, 4),
        ("shares_16", 8, 8),
        ("shares_16_of_32", 16, 8),
        ("counts", 2, 2),
        ("brings", 8, 8),
    ],
)
def test_wavefronts(run, name, moved, least):
    launch = run(name)
    written = None if name.startswith("turns") else True
    assert requests(launch, True, written)[1:] == (moved, least)


def test_fragments(run):
    """ldmatrix: 8 rows of 16 bytes at once. Rows of 64 bytes begin in two banks alternately, rows of 80 in eight."""
    for name, moved in (("fragments_of_32", 2 * 4 * 4), ("fragments_padded", 2 * 4)):
        rows = [site for site in run(name).sites if site.shared and site.size == 16]
        assert sum(site.moved for site in rows) == moved and sum(site.least for site in rows) == 8


# Bytes above the floor: what is written or read beside the large arrays.
ABOVE = {
    "cross entropy": 24 * (8 + 4 + 4),  # target, loss, log-sum-exp of 24 rows
    "cross entropy's gradient": 24 * (4 + 8 + 4),
    "sum of all": 2 * 16 * 4 + 8,  # 16 parts, and the sum in float64
    "sum of squares": 2 * 16 * 4 + 8,
    "sum of rows 512x512": 2 * 8 * 512 * 4 + 512 * 4,  # 8 parts, written and read, and the sums
}


@pytest.mark.parametrize(
    "family, name",
    [(family, "float32") for family in ("activations", "dropout", "layout", "optim", "random", "reduce", "softmax")]
    + [("layout", "float16"), ("optim", "float16")],
)
def test_one_pass_and_coalesced(counter, family, name):
    import traffic_table

    for what, floor, *call in traffic_table.CASES[family](np.dtype(name)):
        launches = traffic_table.measure(counter, *call)
        assert sum(launch.bytes for launch in launches) == floor + ABOVE.get(what, 0), what
        for launch in launches:
            for shared in (False, True):
                moved, least = launch.count(shared)
                assert moved == least, (what, launch.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_table_is_the_recorded_one(counter, name):
    """`traffic_table.py --record` writes it: a line that changes is a kernel that asks for more, or less."""
    import traffic_table

    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    lines = traffic_table.RECORD.read_text().splitlines()
    begin = lines.index(traffic_table.heading(name))
    for family in traffic_table.recorded():
        at = lines.index(family, begin) + 1
        for text, _ in traffic_table.table(counter, family, traffic_table.dtype_of(name)):
            assert f"  {text}" == lines[at]
            at += 1
