// The activations that other kernels may apply on their way, and their gradients: activations.cu has the rest.
//
// A file that includes this and is compiled with -DACTIVATION=gelu has that one as `activated` and its gradient as
// `inner_gradient`. Without it ACTIVATES is false, and they change nothing.

#include "scalar.cuh"

#define ROOT_HALF 0.70710678118654752f  // 1 / sqrt(2)
#define DENSITY 0.39894228040143268f    // the standard normal density at 0
#define GELU_SCALE 1.5957691216057308f  // 2 sqrt(2 / pi): (1 + tanh u) / 2 = sigmoid(2 u)
#define GELU_CUBE 0.044715f

INLINE float relu(float x) { return x < 0 ? 0 : x; }
INLINE float gradient_of_relu(float g, float x) { return x <= 0 ? 0 : g; }

INLINE float gelu(float x) { return 0.5f * x * (1 + erff(x * ROOT_HALF)); }
INLINE float gradient_of_gelu(float g, float x) {
    return g * (0.5f * (1 + erff(x * ROOT_HALF)) + x * (DENSITY * expf(-0.5f * x * x)));
}

INLINE float gelu_sigmoid(float x) { return sigmoid(GELU_SCALE * (x + GELU_CUBE * x * x * x)); }
INLINE float gelu_tanh(float x) { return x * gelu_sigmoid(x); }
INLINE float gradient_of_gelu_tanh(float g, float x) {
    float s = gelu_sigmoid(x);
    return g * (s + x * s * (1 - s) * (GELU_SCALE * (1 + 3 * GELU_CUBE * x * x)));
}

INLINE float silu(float x) { return x * sigmoid(x); }
INLINE float gradient_of_silu(float g, float x) {
    float s = sigmoid(x);
    return g * (s * (1 + x * (1 - s)));
}

INLINE float tanh_softplus(float x) {  // tanh(log(1 + e)) = (e**2 + 2 e) / (e**2 + 2 e + 2)
    float e = expf(clip(x, -104, 20)), n = e * (e + 2);
    return n / (n + 2);
}
INLINE float mish(float x) { return x * tanh_softplus(x); }
INLINE float gradient_of_mish(float g, float x) {
    float t = tanh_softplus(x);
    return g * (t + x * ((1 - t * t) * sigmoid(x)));
}

#ifdef ACTIVATION
#define JOINED(a, b) a##b
#define JOIN(a, b) JOINED(a, b)
constexpr bool ACTIVATES = true;
INLINE float activated(float x) { return ACTIVATION(x); }
INLINE float inner_gradient(float g, float x) { return JOIN(gradient_of_, ACTIVATION)(g, x); }
#else
constexpr bool ACTIVATES = false;
INLINE float activated(float x) { return x; }
INLINE float inner_gradient(float g, float x) { return g; }
#endif
