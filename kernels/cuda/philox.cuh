// Philox4x32-10 (Salmon et al. 2011), as minigen/random.py defines it: four random words for each number of a block.

struct Words { u32 at[4]; };

// Block `number` of a stream: the counter's low half is the number, its high half the stream; the key is the seed.
INLINE Words philox(u64 seed, u64 stream, u64 number) {
    u32 k0 = seed, k1 = seed >> 32, c0 = number, c1 = number >> 32, c2 = stream, c3 = stream >> 32;
    #pragma unroll
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)c0 * 0xD2511F53, p1 = (u64)c2 * 0xCD9E8D57;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0, c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = p1, c3 = p0;
        k0 += 0x9E3779B9, k1 += 0xBB67AE85;
    }
    return {c0, c1, c2, c3};
}
