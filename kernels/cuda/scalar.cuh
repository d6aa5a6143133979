// Functions of one number that several families use.

INLINE float sigmoid(float x) { return 1 / (1 + expf(-x)); }
INLINE float softplus(float x) { return (x < 0 ? 0 : x) + log1pf(expf(-fabsf(x))); }  // log(1 + e**x)
INLINE float clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
INLINE float sign(float x) { return x > 0 ? 1 : x < 0 ? -1 : x; }  // 0 of 0, NaN of NaN
