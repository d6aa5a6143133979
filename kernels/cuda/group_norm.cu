// Group norm, instance norm among it: the algebra of groups, between the loops of norms.cu.
//
// The loops have the floor that norms.cu names; what is here reads a few numbers for each part of each (sample,
// channel) pair. A warp takes a group of a sample. Not yet measured.
// Counted with those loops: 1.01 to 1.04 times the floor's bytes, 1.00 to 1.11 sectors over the least.

#include "common.cuh"
#include "channels.cuh"

// What was summed as a pair may be a channel of a sample, or a whole group: `members` pairs make a group of `wide`
// channels. out: k, offset, rstd, slope, base, one row of (sample, channel) each.
KERNEL group_statistics(const float* k, const float* mean, const float* squares, const W* weight, const W* bias,
                        float eps, float* out, i64 groups, i64 count, i64 members, i64 wide, i64 parts, i64 width,
                        i64 runs, i64 step) {
    i64 group = (i64)blockIdx.x * warps() + warp();  // of a sample: sample * groups + its group
    if (group >= count) return;
    i64 lead = group * members, pairs = count * members;
    float first = k[lead];
    Moments all = {};
    for (i64 i = lane(); i < members * parts; i += 32) {
        i64 part = quotient(i, members), pair = lead + i - part * members;
        all.add({numbers_in(part, width, runs, step), mean[part * pairs + pair] + (k[pair] - first),
                 squares[part * pairs + pair]});
    }
    for (int below = 16; below > 0; below /= 2) all.add(all.from(below));
    float centre = first + all.mean, offset = all.mean - (centre - first);
    centre = __shfl_sync(ALL, centre, 0), offset = __shfl_sync(ALL, offset, 0);
    float rstd = __shfl_sync(ALL, 1 / sqrtf(all.squares / all.count + eps), 0);
    i64 all_channels = count * wide, lead_channel = (group - quotient(group, groups) * groups) * wide;
    for (i64 i = lane(); i < wide; i += 32) {
        i64 c = lead_channel + i, at = group * wide + i;
        float slope = rstd * number(weight, c, 1);
        float row[5] = {centre, offset, rstd, slope, number(bias, c, 0) - offset * slope};
        #pragma unroll
        for (int j = 0; j < 5; j++) out[j * all_channels + at] = row[j];
    }
}

// With h = (x - k - offset) rstd and v = g weight:   dx = rstd (v - average(v) - h average(v h))
// sums: Σg h and Σg, one row of (sample, channel) each; `numbers` in a group.
KERNEL group_gradient(const float* one, const float* two, const W* weight, const float* offset, const float* rstd,
                      float* sums, float* alpha, float* beta, float* gamma, i64 groups, i64 count, i64 wide, i64 parts,
                      i64 numbers) {
    i64 group = (i64)blockIdx.x * warps() + warp();
    if (group >= count) return;
    i64 pairs = count * wide, lead = group * wide, lead_channel = (group - quotient(group, groups) * groups) * wide;
    float r = rstd[lead], v = 0, vh = 0;
    for (i64 i = lane(); i < wide; i += 32) {
        i64 pair = lead + i;
        float w = number(weight, lead_channel + i, 1), of_g = 0, of_gh = 0;
        for (i64 part = 0; part < parts; part++) of_g += one[part * pairs + pair], of_gh += two[part * pairs + pair];
        of_gh *= r;
        sums[pair] = of_gh;
        sums[pairs + pair] = of_g;
        v += w * of_g, vh += w * of_gh;
    }
    v = warp_sum(v) / numbers, vh = warp_sum(vh) / numbers;
    float slope = -r * r * vh, rest = -r * v - slope * offset[lead];
    for (i64 i = lane(); i < wide; i += 32) {
        alpha[lead + i] = r * number(weight, lead_channel + i, 1);
        beta[lead + i] = slope;
        gamma[lead + i] = rest;
    }
}
