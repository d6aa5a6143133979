// Keys and values of new symbols, written to their places in a cache, both in one launch.
//
// Floor: read k and v, write as much; 6 KB for one symbol of a row of GPT-2 in bfloat16. It is the launch that counts
// (12 a symbol, in a captured step), so there is one where assignments with index arrays would take six. Not yet
// measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors over the least.
//
// A warp moves one head's key and value of one symbol. Where it goes is read from memory, not given by the host: a
// captured launch writes one place further each time that it is replayed.

#include "common.cuh"

INLINE void copy(T* to, const T* from, i64 width) {
    for (i64 first = lane() * PACK; first < width; first += 32 * PACK) {
        float v[PACK];
        load(v, from, first, width);
        store(to, first, width, v);
    }
}

// keys (N, G, S, D), values (N, G, S, E); k[n, g, t] stands at n k_row + g k_head + t k_symbol, and so v; places (N, T)
KERNEL write_symbols(T* keys, T* values, const T* k, const T* v, const i64* places, i64 N, i64 G, i64 symbols, i64 S,
                     i64 D, i64 E, i64 k_row, i64 k_head, i64 k_symbol, i64 v_row, i64 v_head, i64 v_symbol) {
    i64 task = (i64)blockIdx.x * warps() + warp();
    if (task >= N * G * symbols) return;
    i64 head = quotient(task, symbols), t = task - head * symbols, n = quotient(head, G), g = head - n * G;
    i64 place = places[n * symbols + t];
    if (place < 0) return;
    i64 row = (n * G + g) * S + place;
    copy(keys + row * D, k + n * k_row + g * k_head + t * k_symbol, D);
    copy(values + row * E, v + n * v_row + g * v_head + t * v_symbol, E);
}
