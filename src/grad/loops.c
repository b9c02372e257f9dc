/* The inner loops, for the instruction set this file is built with (NAME is the table). */
#include "grad/loops.h"
#include "grad/vec.h"
#include "tensor/tensor.h"


#ifndef NAME
#define NAME pith_loops_base
#endif

extern const pith_loops NAME;

/* ---- functions of one number ------------------------------------------------------------------ */

#define INV_SQRT_2PI 0.3989422804014327f
#define INV_SQRT_2 0.7071067811865475f
#define TWO_INV_SQRT_PI 1.1283791670955126f
#define SQRT_2_PI 0.7978845608028654f
#define GELU_CUBE 0.044715f

INLINE vec pow_of(vec x, float exponent)
{
    if (exponent == 0) return spread(1);
    return vexp(vlog(x) * exponent);
}

INLINE vec gelu_tanh(vec x, int order)
{
    vec t = vtanh((x * x * GELU_CUBE + 1.0f) * x * SQRT_2_PI);
    if (order == 0) return x * 0.5f * (t + 1.0f);
    vec u1 = (x * x * (3 * GELU_CUBE) + 1.0f) * SQRT_2_PI, slope = 1.0f - t * t;
    if (order == 1) return (t + 1.0f) * 0.5f + x * 0.5f * slope * u1;
    vec u2 = x * (6 * GELU_CUBE * SQRT_2_PI);
    return slope * u1 + x * 0.5f * slope * (u2 - t * 2.0f * u1 * u1);
}

/* The function (order 0), its first or second derivative.  fn and order are constants where this is called. */
INLINE vec apply(pith_unary fn, int order, float p0, float p1, vec x)
{
    vec zero = spread(0), one = spread(1), s, t;
    switch (fn) {
    case PITH_UNARY_AFFINE: return order == 0 ? x * p0 + p1 : order == 1 ? spread(p0) : zero;
    case PITH_UNARY_ABS: return order == 0 ? vabs(x) : order == 1 ? choose(x > zero, one, choose(x < zero, -one, zero)) : zero;
    case PITH_UNARY_SQUARE: return order == 0 ? x * x : order == 1 ? x * 2.0f : spread(2);
    case PITH_UNARY_SQRT: s = vsqrt(x); return order == 0 ? s : order == 1 ? 0.5f / s : -0.25f / (s * x);
    case PITH_UNARY_RSQRT: s = 1.0f / vsqrt(x); return order == 0 ? s : order == 1 ? -0.5f * s / x : 0.75f * s / (x * x);
    case PITH_UNARY_RECIPROCAL: s = 1.0f / x; return order == 0 ? s : order == 1 ? -s * s : s * s * s * 2.0f;
    case PITH_UNARY_POW: return order == 0 ? pow_of(x, p0) : order == 1 ? pow_of(x, p0 - 1) * p0 : pow_of(x, p0 - 2) * (p0 * (p0 - 1));
    case PITH_UNARY_EXP: return vexp(x);
    case PITH_UNARY_LOG: return order == 0 ? vlog(x) : order == 1 ? 1.0f / x : -1.0f / (x * x);
    case PITH_UNARY_SIN: return order == 0 ? vsine(x, 0) : order == 1 ? vsine(x, 1) : -vsine(x, 0);
    case PITH_UNARY_COS: return order == 0 ? vsine(x, 1) : order == 1 ? -vsine(x, 0) : -vsine(x, 1);
    case PITH_UNARY_ERF: if (order == 0) return verf(x); s = vexp(-x * x) * TWO_INV_SQRT_PI; return order == 1 ? s : x * -2.0f * s;
    case PITH_UNARY_TANH: t = vtanh(x); return order == 0 ? t : order == 1 ? 1.0f - t * t : t * -2.0f * (1.0f - t * t);
    case PITH_UNARY_SIGMOID: s = vsigmoid(x); return order == 0 ? s : order == 1 ? s * (1.0f - s) : s * (1.0f - s) * (1.0f - s * 2.0f);
    case PITH_UNARY_SOFTPLUS: if (order == 0) return vmax(x, zero) + vlog(vexp(-vabs(x)) + 1.0f); s = vsigmoid(x); return order == 1 ? s : s * (1.0f - s);
    case PITH_UNARY_RELU: return order == 0 ? vmax(x, zero) : order == 1 ? choose(x > zero, one, zero) : zero;
    case PITH_UNARY_LEAKY_RELU: return order == 0 ? choose(x > zero, x, x * p0) : order == 1 ? choose(x > zero, one, spread(p0)) : zero;
    case PITH_UNARY_ELU: s = vexp(vmin(x, zero)) * p0; return order == 0 ? choose(x > zero, x, s - p0) : choose(x > zero, order == 1 ? one : zero, s);
    case PITH_UNARY_SILU: s = vsigmoid(x); return order == 0 ? x * s : order == 1 ? s * (x * (1.0f - s) + 1.0f) : s * (1.0f - s) * (x * (1.0f - s * 2.0f) + 2.0f);
    case PITH_UNARY_GELU:
        s = (verf_exp(x * INV_SQRT_2, &t) + 1.0f) * 0.5f;
        if (order == 0) return x * s;
        t *= INV_SQRT_2PI;
        return order == 1 ? s + x * t : t * (2.0f - x * x);
    case PITH_UNARY_GELU_TANH: return gelu_tanh(x, order);
    case PITH_UNARY_CLAMP: return order == 0 ? vmin(vmax(x, spread(p0)), spread(p1)) : order == 1 ? choose((x >= spread(p0)) & (x <= spread(p1)), one, zero) : zero;
    case PITH_UNARY_ROUND: return order == 0 ? vround(x) : zero;
    case PITH_UNARY_FLOOR: return order == 0 ? vfloor(x) : zero;
    case PITH_UNARY_SIGN: return order == 0 ? choose(x > zero, one, choose(x < zero, -one, zero)) : zero;
    case PITH_N_UNARIES: break;
    }
    return zero;
}

INLINE void unary_loop(pith_unary fn, int order, float p0, float p1, const float *x, const float *g, float *y, size_t n)
{
    size_t whole = n - n % LANES, rest = n % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        vec v = apply(fn, order, p0, p1, load(x + i));
        store(y + i, order ? v * load(g + i) : v);
    }
    if (!rest) return;
    vec v = apply(fn, order, p0, p1, load_some(x + whole, rest));
    store_some(y + whole, order ? v * load_some(g + whole, rest) : v, rest);
}

/* one function a kind, so that each is compiled by itself */
#define X(upper, lower)                                                                                                \
    static void lower##_loop(int order, float p0, float p1, const float *x, const float *g, float *y, size_t n)        \
    {                                                                                                                  \
        if (order == 0) unary_loop(PITH_UNARY_##upper, 0, p0, p1, x, g, y, n);                                         \
        else if (order == 1) unary_loop(PITH_UNARY_##upper, 1, p0, p1, x, g, y, n);                                    \
        else unary_loop(PITH_UNARY_##upper, 2, p0, p1, x, g, y, n);                                                    \
    }
PITH_UNARIES(X)
#undef X

static void unary(pith_unary fn, int order, float p0, float p1, const float *x, const float *g, float *y, size_t n)
{
    switch (fn) {
#define X(upper, lower) case PITH_UNARY_##upper: lower##_loop(order, p0, p1, x, g, y, n); break;
    PITH_UNARIES(X)
#undef X
    case PITH_N_UNARIES: break;
    }
}

/* ---- of two numbers --------------------------------------------------------------------------- */

INLINE vec pair(pith_binary fn, vec a, vec b)
{
    switch (fn) {
    case PITH_BINARY_ADD: return a + b;
    case PITH_BINARY_SUB: return a - b;
    case PITH_BINARY_MUL: return a * b;
    case PITH_BINARY_DIV: return a / b;
    case PITH_BINARY_MAX: return vmax(a, b);
    case PITH_BINARY_MIN: return vmin(a, b);
    case PITH_BINARY_AT_LEAST: return choose(a >= b, spread(1), spread(0));
    case PITH_N_BINARIES: break;
    }
    return a;
}

INLINE void binary_steps(pith_binary fn, const float *a, int step_a, const float *b, int step_b, float *y, size_t n)
{
    size_t whole = n - n % LANES, rest = n % LANES;
    vec va = spread(step_a || !n ? 0 : *a), vb = spread(step_b || !n ? 0 : *b);
    for (size_t i = 0; i < whole; i += LANES) store(y + i, pair(fn, step_a ? load(a + i) : va, step_b ? load(b + i) : vb));
    if (rest) store_some(y + whole, pair(fn, step_a ? load_some(a + whole, rest) : va, step_b ? load_some(b + whole, rest) : vb), rest);
}

INLINE void binary_loop(pith_binary fn, const float *a, int step_a, const float *b, int step_b, float *y, size_t n)
{
    if (step_a && step_b) binary_steps(fn, a, 1, b, 1, y, n);
    else if (step_a) binary_steps(fn, a, 1, b, 0, y, n);
    else if (step_b) binary_steps(fn, a, 0, b, 1, y, n);
    else binary_steps(fn, a, 0, b, 0, y, n);
}

static void binary(pith_binary fn, const float *a, int step_a, const float *b, int step_b, float *y, size_t n)
{
    switch (fn) {
#define CASE(name) case PITH_BINARY_##name: binary_loop(PITH_BINARY_##name, a, step_a, b, step_b, y, n); break
    CASE(ADD);
    CASE(SUB);
    CASE(MUL);
    CASE(DIV);
    CASE(MAX);
    CASE(MIN);
    CASE(AT_LEAST);
#undef CASE
    case PITH_N_BINARIES: break;
    }
}

static void axpy(float *y, const float *x, float a, size_t n)
{
    size_t whole = n - n % LANES, rest = n % LANES;
    for (size_t i = 0; i < whole; i += LANES) store(y + i, load(y + i) + load(x + i) * a);
    if (rest) store_some(y + whole, load_some(y + whole, rest) + load_some(x + whole, rest) * a, rest);
}

static void blend(float *y, const float *x, float t, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += t * (x[i] - y[i]);
}

/* ---- of rows ---------------------------------------------------------------------------------- */

static float sum(const float *x, size_t n)
{
    vec s = {0};
    size_t whole = n - n % LANES;
    for (size_t i = 0; i < whole; i += LANES) s += load(x + i);
    if (n > whole) s += load_some(x + whole, n - whole);
    return vsum(s);
}

static float dot(const float *a, const float *b, size_t n)
{
    vec s = {0};
    size_t whole = n - n % LANES;
    for (size_t i = 0; i < whole; i += LANES) s += load(a + i) * load(b + i);
    if (n > whole) s += load_some(a + whole, n - whole) * load_some(b + whole, n - whole);
    return vsum(s);
}

static float spread_of(const float *x, size_t n, float mean)
{
    vec s = {0};
    size_t whole = n - n % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        vec d = load(x + i) - mean;
        s += d * d;
    }
    float rest = 0;
    for (size_t i = whole; i < n; i++) rest += (x[i] - mean) * (x[i] - mean);
    return vsum(s) + rest;
}

static float max_of(const float *x, size_t n)
{
    vec m = spread(-INFINITY);
    size_t whole = n - n % LANES;
    for (size_t i = 0; i < whole; i += LANES) m = vmax(load(x + i), m);
    float best = -INFINITY;
    for (int i = 0; i < LANES; i++) best = best >= m[i] ? best : m[i];
    for (size_t i = whole; i < n; i++) best = best >= x[i] ? best : x[i];
    return best;
}

static float exp_sum(const float *x, float scale, float shift, float *y, size_t n)
{
    vec s = {0};
    size_t whole = n - n % LANES, rest = n - whole;
    for (size_t i = 0; i < whole; i += LANES) {
        vec e = vexp(load(x + i) * scale - shift);
        store(y + i, e);
        s += e;
    }
    if (rest) {
        store_some(y + whole, vexp(load_some(x + whole, rest) * scale - shift), rest);
        s += load_some(y + whole, rest);
    }
    return vsum(s);
}

static void normalize(const float *x, float mean, float r, const float *gain, const float *bias, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v = (load(x + i) - mean) * r;
        if (gain) v *= load(gain + i);
        if (bias) v += load(bias + i);
        store(y + i, v);
    }
    for (; i < n; i++) {
        float v = (x[i] - mean) * r;
        if (gain) v *= gain[i];
        if (bias) v += bias[i];
        y[i] = v;
    }
}

static void center(const float *x, float mean, float factor, float shift, float *y, size_t n)
{
    size_t whole = n - n % LANES, rest = n - whole;
    for (size_t i = 0; i < whole; i += LANES) store(y + i, (load(x + i) - mean) * factor + shift);
    if (rest) store_some(y + whole, (load_some(x + whole, rest) - mean) * factor + shift, rest);
}

static void center_back(const float *x, float mean, const float *g, float p, float q, float s, float *gx, size_t n)
{
    size_t whole = n - n % LANES, rest = n - whole;
    for (size_t i = 0; i < whole; i += LANES) store(gx + i, load(g + i) * p - q - (load(x + i) - mean) * s);
    if (rest) store_some(gx + whole, load_some(g + whole, rest) * p - q - (load_some(x + whole, rest) - mean) * s, rest);
}

static void gain_back(const float *x, float mean, float r, const float *g, float *by_gain, float *by_bias, size_t n)
{
    size_t whole = n - n % LANES, rest = n - whole;
    for (size_t i = 0; i < whole; i += LANES) {
        vec v = load(g + i);
        if (by_gain) store(by_gain + i, load(by_gain + i) + (load(x + i) - mean) * r * v);
        if (by_bias) store(by_bias + i, load(by_bias + i) + v);
    }
    if (!rest) return;
    vec v = load_some(g + whole, rest);
    if (by_gain) store_some(by_gain + whole, load_some(by_gain + whole, rest) + (load_some(x + whole, rest) - mean) * r * v, rest);
    if (by_bias) store_some(by_bias + whole, load_some(by_bias + whole, rest) + v, rest);
}

static void softmax_back(const float *y, const float *g, float d, float *gx, size_t n)
{
    for (size_t i = 0; i < n; i++) gx[i] = y[i] * (g[i] - d);
}

/* ---- optimizers ------------------------------------------------------------------------------- */

static void adam(float *w, const float *g, float *m, float *v, float factor, float beta1, float beta2, float rate, float root, float eps, float keep, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * factor;
        m[i] = beta1 * m[i] + (1 - beta1) * d;
        v[i] = beta2 * v[i] + (1 - beta2) * d * d;
        w[i] = keep * w[i] - rate * m[i] / (__builtin_sqrtf(v[i]) / root + eps);
    }
}

static void sgd(float *w, const float *g, float *m, float factor, float momentum, bool nesterov, float rate, float decay, size_t n)
{
    if (!m) {
        for (size_t i = 0; i < n; i++) w[i] -= rate * (g[i] * factor + decay * w[i]);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * factor + decay * w[i];
        m[i] = momentum * m[i] + d;
        w[i] -= rate * (nesterov ? d + momentum * m[i] : m[i]);
    }
}

static void to_bf16(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = pith_f32_to_bf16(x[i]);
}

/* ---- LSTM ------------------------------------------------------------------------------------- */

INLINE vec gate_sum(const pith_lstm_row *r, size_t at, size_t n)
{
    vec v = get(r->act + at, n) + get(r->gates + at, n);
    return r->bias ? v + get(r->bias + at, n) : v;
}

/* Values at..at+n-1; g_at: where the gate g begins, behind those that let pass. */
INLINE void lstm_lanes(const pith_lstm_row *r, size_t g_at, size_t at, size_t n)
{
    size_t h = r->h, o_at = g_at + h;
    vec before = get(r->c_before + at, n), i = gate_sum(r, at, n), g = vtanh(gate_sum(r, g_at + at, n)), o = gate_sum(r, o_at + at, n);
    if (r->peep) i += get(r->peep + at, n) * before;
    i = vsigmoid(i);
    vec c = i * g;
    if (r->forgets) {
        vec f = gate_sum(r, h + at, n);
        if (r->peep) f += get(r->peep + h + at, n) * before;
        f = vsigmoid(f);
        put(r->act + h + at, f, n);
        c = f * before + c;
    } else {
        c = before + c;
    }
    if (r->peep) o += get(r->peep + g_at + at, n) * c;
    o = vsigmoid(o);
    vec tc = vtanh(c);
    put(r->act + at, i, n);
    put(r->act + g_at + at, g, n);
    put(r->act + o_at + at, o, n);
    put(r->c + at, c, n);
    put(r->tc + at, tc, n);
    put(r->y + at, o * tc, n);
}

static void lstm(const pith_lstm_row *r)
{
    size_t rest = r->h % LANES, g_at = r->forgets ? 2 * r->h : r->h;
    for (size_t at = 0; at + rest < r->h; at += LANES) lstm_lanes(r, g_at, at, LANES);
    if (rest) lstm_lanes(r, g_at, r->h - rest, rest);
}

INLINE void lstm_back_lanes(const pith_lstm_row *r, size_t g_at, size_t at, size_t n)
{
    size_t h = r->h, o_at = g_at + h;
    vec i = get(r->act + at, n), z = get(r->act + g_at + at, n), o = get(r->act + o_at + at, n), tc = get(r->tc + at, n), gh = get(r->gh + at, n);
    vec c = get(r->gc + at, n) + gh * o * (1.0f - tc * tc), by_o = gh * tc * o * (1.0f - o);
    if (r->peep) c += by_o * get(r->peep + g_at + at, n);
    vec by_i = c * z * i * (1.0f - i), gc = c;
    if (r->forgets) {
        vec f = get(r->act + h + at, n), by_f = c * get(r->c_before + at, n) * f * (1.0f - f);
        gc = c * f;
        if (r->peep) gc += by_f * get(r->peep + h + at, n);
        put(r->g + h + at, by_f, n);
    }
    if (r->peep) gc += by_i * get(r->peep + at, n);
    put(r->g + at, by_i, n);
    put(r->g + g_at + at, c * i * (1.0f - z * z), n);
    put(r->g + o_at + at, by_o, n);
    put(r->gc + at, gc, n);
}

static void lstm_back(const pith_lstm_row *r)
{
    size_t rest = r->h % LANES, g_at = r->forgets ? 2 * r->h : r->h;
    for (size_t at = 0; at + rest < r->h; at += LANES) lstm_back_lanes(r, g_at, at, LANES);
    if (rest) lstm_back_lanes(r, g_at, r->h - rest, rest);
}

/* ---- Fourier transform ------------------------------------------------------------------------ */

typedef struct fft_place {
    size_t from, to;              /* x[.. + from l], y[.. + to k] */
    const float *w;
    size_t n, turn;               /* w[turn k] */
    const float *restrict xr, *restrict xi;
    float *restrict yr, *restrict yi;
} fft_place;

static void fft_two(const fft_place *p, size_t n)
{
    const float *restrict ar = p->xr, *restrict ai = p->xi, *restrict br = ar + p->from, *restrict bi = ai + p->from;
    float *restrict cr = p->yr, *restrict ci = p->yi, *restrict dr = cr + p->to, *restrict di = ci + p->to;
    float wr = p->w[p->turn], wi = p->w[p->n + p->turn];
    for (size_t i = 0; i < n; i++) {
        float r = ar[i] - br[i], m = ai[i] - bi[i];
        cr[i] = ar[i] + br[i];
        ci[i] = ai[i] + bi[i];
        dr[i] = r * wr - m * wi;
        di[i] = r * wi + m * wr;
    }
}

static void fft_four(const fft_place *p, size_t n)
{
    const float *restrict x0r = p->xr, *restrict x1r = x0r + p->from, *restrict x2r = x1r + p->from, *restrict x3r = x2r + p->from;
    const float *restrict x0i = p->xi, *restrict x1i = x0i + p->from, *restrict x2i = x1i + p->from, *restrict x3i = x2i + p->from;
    float *restrict y0r = p->yr, *restrict y1r = y0r + p->to, *restrict y2r = y1r + p->to, *restrict y3r = y2r + p->to;
    float *restrict y0i = p->yi, *restrict y1i = y0i + p->to, *restrict y2i = y1i + p->to, *restrict y3i = y2i + p->to;
    const float *wr = p->w, *wi = p->w + p->n;
    float w1r = wr[p->turn], w2r = wr[2 * p->turn], w3r = wr[3 * p->turn], w1i = wi[p->turn], w2i = wi[2 * p->turn], w3i = wi[3 * p->turn];
    for (size_t i = 0; i < n; i++) {
        float ar = x0r[i] + x2r[i], ai = x0i[i] + x2i[i], br = x0r[i] - x2r[i], bi = x0i[i] - x2i[i];
        float cr = x1r[i] + x3r[i], ci = x1i[i] + x3i[i], dr = x1i[i] - x3i[i], di = x3r[i] - x1r[i]; /* d: times -i */
        y0r[i] = ar + cr;
        y0i[i] = ai + ci;
        float r = br + dr, m = bi + di;
        y1r[i] = r * w1r - m * w1i;
        y1i[i] = r * w1i + m * w1r;
        r = ar - cr, m = ai - ci;
        y2r[i] = r * w2r - m * w2i;
        y2i[i] = r * w2i + m * w2r;
        r = br - dr, m = bi - di;
        y3r[i] = r * w3r - m * w3i;
        y3i[i] = r * w3i + m * w3r;
    }
}

/* Values l and radix - l meet roots that are conjugate: y_k and y_(radix - k) are a sum of cosines, plus and less one of sines. */
static void fft_odd(const fft_place *p, size_t radix, size_t n)
{
    size_t root = p->n / radix;
    memcpy(p->yr, p->xr, n * sizeof(float));
    memcpy(p->yi, p->xi, n * sizeof(float));
    for (size_t l = 1; l < radix; l++)
        for (size_t i = 0; i < n; i++) {
            p->yr[i] += p->xr[l * p->from + i];
            p->yi[i] += p->xi[l * p->from + i];
        }
    for (size_t k = 1; 2 * k < radix; k++) {
        float *restrict ar = p->yr + k * p->to, *restrict ai = p->yi + k * p->to, *restrict br = p->yr + (radix - k) * p->to, *restrict bi = p->yi + (radix - k) * p->to;
        memcpy(ar, p->xr, n * sizeof *ar);
        memcpy(ai, p->xi, n * sizeof *ai);
        memset(br, 0, n * sizeof *br);
        memset(bi, 0, n * sizeof *bi);
        for (size_t l = 1; 2 * l < radix; l++) {
            const float *restrict ur = p->xr + l * p->from, *restrict ui = p->xi + l * p->from, *restrict vr = p->xr + (radix - l) * p->from, *restrict vi = p->xi + (radix - l) * p->from;
            float cosine = p->w[l * k % radix * root], sine = p->w[p->n + l * k % radix * root];
            for (size_t i = 0; i < n; i++) {
                ar[i] += (ur[i] + vr[i]) * cosine;
                ai[i] += (ui[i] + vi[i]) * cosine;
                br[i] -= (ui[i] - vi[i]) * sine;
                bi[i] += (ur[i] - vr[i]) * sine;
            }
        }
        float w1r = p->w[k * p->turn], w1i = p->w[p->n + k * p->turn], w2r = p->w[(radix - k) * p->turn], w2i = p->w[p->n + (radix - k) * p->turn];
        for (size_t i = 0; i < n; i++) {
            float cr = ar[i] + br[i], ci = ai[i] + bi[i], dr = ar[i] - br[i], di = ai[i] - bi[i];
            ar[i] = cr * w1r - ci * w1i;
            ai[i] = cr * w1i + ci * w1r;
            br[i] = dr * w2r - di * w2i;
            bi[i] = dr * w2i + di * w2r;
        }
    }
}

static void fft_pass(size_t radix, size_t m, size_t step, size_t lanes, const float *w, const float *xr, const float *xi, float *yr, float *yi)
{
    size_t n = step * lanes;
    for (size_t j = 0; j < m; j++) {
        fft_place p = {m * n, n, w, radix * m * step, j * step, xr + j * n, xi + j * n, yr + radix * j * n, yi + radix * j * n};
        if (radix == 4) fft_four(&p, n);
        else if (radix == 2) fft_two(&p, n);
        else fft_odd(&p, radix, n);
    }
}

const pith_loops NAME = {unary, binary, sum, dot, spread_of, max_of, exp_sum, axpy, normalize, center, center_back, gain_back, softmax_back, adam, sgd, lstm, lstm_back, blend, to_bf16, fft_pass};
