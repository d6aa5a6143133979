// Activations and their gradients, elementwise, in one pass each.
//
// Floor: read x, write y: 8 bytes a number in float32, 4 in the 16-bit types; half as much again in the gradient. The
// dearest, mish, does some 60 operations a number, which a card does in the time that it moves the bytes.
// It should be near the floor because every access is of 16 bytes and each number is touched once. Not yet measured.
// Counted: 1.00 times the floor's bytes, 1.00 sectors over the least.

#include "common.cuh"
#include "activations.cuh"

// A kernel for y = VALUE of x, p, q, and one for gx = GRADIENT of g, x, p, q.
#define KERNELS(name, VALUE, GRADIENT)                                                        \
    KERNEL name##_value(const T* input, T* output, i64 n, float p, float q) {                 \
        float v[PACK];                                                                        \
        load(v, input, my_pack(), n);                                                         \
        _Pragma("unroll") for (int k = 0; k < PACK; k++) {                                    \
            float x = v[k];                                                                   \
            v[k] = VALUE;                                                                     \
        }                                                                                     \
        store(output, my_pack(), n, v);                                                       \
    }                                                                                         \
    KERNEL name##_gradient(const T* up, const T* input, T* output, i64 n, float p, float q) { \
        float v[PACK], u[PACK];                                                               \
        load(v, input, my_pack(), n);                                                         \
        load(u, up, my_pack(), n);                                                            \
        _Pragma("unroll") for (int k = 0; k < PACK; k++) {                                    \
            float x = v[k], g = u[k];                                                         \
            v[k] = GRADIENT;                                                                  \
        }                                                                                     \
        store(output, my_pack(), n, v);                                                       \
    }

KERNELS(relu, relu(x), gradient_of_relu(g, x))
KERNELS(leaky_relu, x > 0 ? x : x * p, x > 0 ? g : g * p)
KERNELS(elu, x > 0 ? x : p * expm1f(x), x > 0 ? g : g * (p * expf(x)))
KERNELS(gelu, gelu(x), gradient_of_gelu(g, x))
KERNELS(gelu_tanh, gelu_tanh(x), gradient_of_gelu_tanh(g, x))
KERNELS(silu, silu(x), gradient_of_silu(g, x))
KERNELS(softplus, x * p > q ? x : softplus(x * p) / p, x * p > q ? g : g * sigmoid(x * p))
KERNELS(logsigmoid, -softplus(-x), g * sigmoid(-x))
KERNELS(mish, mish(x), gradient_of_mish(g, x))
KERNELS(hardswish, x * clip(x + 3, 0, 6) / 6, x < -3 ? 0 : x <= 3 ? g * (x / 3 + 0.5f) : g)
// the gradients of these take y for x
KERNELS(sigmoid, sigmoid(x), g * (x * (1 - x)))
KERNELS(tanh, tanhf(x), g * (1 - x * x))
KERNELS(exp, expf(x), g * x)
