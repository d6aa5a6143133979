// Activations and their gradients, elementwise, in one pass each.
//
// Floor: read x, write y: 8 bytes a number in float32, 4 in the 16-bit types; half as much again in the gradient. The
// dearest, mish, does some 60 operations a number, which a card does in the time that it moves the bytes.
// It should be near the floor because every access is of 16 bytes and each number is touched once. Not yet measured.

#include "common.cuh"
#include "scalar.cuh"

#define ROOT_HALF 0.70710678118654752f  // 1 / sqrt(2)
#define DENSITY 0.39894228040143268f    // the standard normal density at 0
#define GELU_SCALE 1.5957691216057308f  // 2 sqrt(2 / pi): (1 + tanh u) / 2 = sigmoid(2 u)
#define GELU_CUBE 0.044715f

INLINE float gelu_sigmoid(float x) { return sigmoid(GELU_SCALE * (x + GELU_CUBE * x * x * x)); }

INLINE float tanh_softplus(float x) {  // tanh(log(1 + e)) = (e**2 + 2 e) / (e**2 + 2 e + 2)
    float e = expf(clip(x, -104, 20)), n = e * (e + 2);
    return n / (n + 2);
}

INLINE float silu_slope(float x) {
    float s = sigmoid(x);
    return s * (1 + x * (1 - s));
}

INLINE float gelu_tanh_slope(float x) {
    float s = gelu_sigmoid(x);
    return s + x * s * (1 - s) * (GELU_SCALE * (1 + 3 * GELU_CUBE * x * x));
}

INLINE float mish_slope(float x) {
    float t = tanh_softplus(x);
    return t + x * ((1 - t * t) * sigmoid(x));
}

// A kernel for y = VALUE of x, p, q, and one for gx = GRADIENT of g, x, p, q.
#define ACTIVATION(name, VALUE, GRADIENT)                                                     \
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

ACTIVATION(relu, x < 0 ? 0 : x, x <= 0 ? 0 : g)
ACTIVATION(leaky_relu, x > 0 ? x : x * p, x > 0 ? g : g * p)
ACTIVATION(elu, x > 0 ? x : p * expm1f(x), x > 0 ? g : g * (p * expf(x)))
ACTIVATION(gelu, 0.5f * x * (1 + erff(x * ROOT_HALF)),
           g * (0.5f * (1 + erff(x * ROOT_HALF)) + x * (DENSITY * expf(-0.5f * x * x))))
ACTIVATION(gelu_tanh, x * gelu_sigmoid(x), g * gelu_tanh_slope(x))
ACTIVATION(silu, x * sigmoid(x), g * silu_slope(x))
ACTIVATION(softplus, x * p > q ? x : softplus(x * p) / p, x * p > q ? g : g * sigmoid(x * p))
ACTIVATION(logsigmoid, -softplus(-x), g * sigmoid(-x))
ACTIVATION(mish, x * tanh_softplus(x), g * mish_slope(x))
ACTIVATION(hardswish, x * clip(x + 3, 0, 6) / 6, x < -3 ? 0 : x <= 3 ? g * (x / 3 + 0.5f) : g)
// the gradients of these take y for x
ACTIVATION(sigmoid, sigmoid(x), g * (x * (1 - x)))
ACTIVATION(tanh, tanhf(x), g * (1 - x * x))
ACTIVATION(exp, expf(x), g * x)
