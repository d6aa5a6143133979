// The steps of the optimisers over flat buffers: each parameter, gradient and moment is read and written once.
//
// Floor: Adam reads p, g, m, v and writes p, m, v: 28 bytes a parameter in float32, 26 with a 16-bit gradient; SGD with
// momentum 20. It should be near the floor because a thread takes FEW numbers, 16 bytes of float32 and 8 of a 16-bit
// gradient, so that the threads of a warp touch whole lines in each access. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors over the least, in every type.
//
// Parameters and moments are float32, the gradient is of type T. The rules are PyTorch's (torch.optim.SGD, Adam,
// AdamW), in the same order of operations. What changes from step to step comes as a number, or from memory, as a
// captured step wants it: `numbers` (numbers.cu) in place of the arguments, if it is not null. With *skip not 0
// nothing happens.

#include "common.cuh"

constexpr int FEW = 4;

INLINE i64 my_few() { return ((i64)blockIdx.x * blockDim.x + threadIdx.x) * FEW; }

KERNEL sgd(float* p, const T* g, float* buffer, i64 n, float lr, float momentum, float keep, float weight_decay,
           i64 nesterov, float sign, const float* numbers, const float* skip) {
    if (skip && *skip != 0) return;
    if (numbers) lr = numbers[0], keep = numbers[1], momentum = numbers[2];
    i64 first = my_few();
    float a[FEW], d[FEW], b[FEW];
    load(a, p, first, n);
    load(d, g, first, n);
    if (buffer) load(b, buffer, first, n);
    #pragma unroll
    for (int k = 0; k < FEW; k++) {
        float step = sign * d[k] + weight_decay * a[k];
        if (buffer) {
            b[k] = momentum * b[k] + keep * step;
            step = nesterov ? step + momentum * b[k] : b[k];
        }
        a[k] -= lr * step;
    }
    store(p, first, n, a);
    if (buffer) store(buffer, first, n, b);
}

KERNEL adam(float* p, const T* g, float* m, float* v, float* most, i64 n, float scale, float beta1, float beta2,
            float rest1, float rest2, float eps, float l2, float shrink, float root, float sign, i64 decoupled,
            const float* numbers, const float* skip) {
    if (skip && *skip != 0) return;
    if (numbers) {
        scale = numbers[0], root = numbers[1], beta1 = numbers[3], rest1 = numbers[4];
        if (decoupled) shrink = numbers[2];
    }
    i64 start = my_few();
    float a[FEW], d[FEW], first[FEW], second[FEW], largest[FEW];
    load(a, p, start, n);
    load(d, g, start, n);
    load(first, m, start, n);
    load(second, v, start, n);
    if (most) load(largest, most, start, n);
    #pragma unroll
    for (int k = 0; k < FEW; k++) {
        float step = sign * d[k] + l2 * a[k];
        first[k] = beta1 * first[k] + rest1 * step;
        second[k] = beta2 * second[k] + rest2 * (step * step);
        largest[k] = most && largest[k] > second[k] ? largest[k] : second[k];
        a[k] = shrink * a[k] - scale * (first[k] / (sqrtf(largest[k]) * root + eps));
    }
    store(p, start, n, a);
    store(m, start, n, first);
    store(v, start, n, second);
    if (most) store(most, start, n, largest);
}

KERNEL lerp(float* a, const T* b, i64 n, float usual, const double* given) {
    float x[FEW], y[FEW], weight = given ? (float)*given : usual;
    if (weight == 0) return;
    load(x, a, my_few(), n);
    load(y, b, my_few(), n);
    #pragma unroll
    for (int k = 0; k < FEW; k++) x[k] += weight * (y[k] - x[k]);
    store(a, my_few(), n, x);
}

// Zeros stay zeros whatever the factor: the gaps between parameters must.
KERNEL scale(T* a, i64 n, float usual, const float* given) {
    float x[PACK], factor = given ? *given : usual;
    load(x, a, my_pack(), n);
    #pragma unroll
    for (int k = 0; k < PACK; k++) x[k] = x[k] == 0 ? x[k] : x[k] * factor;
    store(a, my_pack(), n, x);
}
