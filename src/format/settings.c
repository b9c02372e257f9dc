/* Settings of a network: defaults, range checks, rotary scaling. */
#include "format/settings.h"

#include <math.h>

void pith_settings_default(pith_settings *s)
{
    *s = (pith_settings){.norm_eps = 1e-5f, .rope_base = 10000.0f, .rope_style = PITH_ROPE_HALVES, .rope_factor = 1.0f,
                         .rope_low_freq_factor = 1.0f, .rope_high_freq_factor = 4.0f, .rope_attn_factor = 1.0f,
                         .rope_beta_fast = 32.0f, .rope_beta_slow = 1.0f};
}

bool pith_settings_known(const pith_settings *s)
{
    return strcmp(s->architecture, "llama") == 0 || strcmp(s->architecture, "qwen2") == 0;
}

pith_status pith_settings_check(pith_ctx *ctx, const char *path, const pith_settings *s, size_t n_tensors)
{
    if (!pith_settings_known(s) || (s->n_layers == 0 && n_tensors == 0)) return PITH_OK;
    const char *bad = NULL;
    if (s->n_layers == 0 || s->n_layers > n_tensors) bad = "the number of layers does not fit the number of tensors";
    else if (s->n_embd == 0 || s->n_embd > 1u << 20) bad = "the embedding length is not in 1..2^20";
    else if (s->n_heads == 0 || s->n_heads > 1u << 16) bad = "the number of heads is not in 1..65536";
    else if (s->n_kv_heads == 0 || s->n_heads % s->n_kv_heads) bad = "the key-value heads do not divide the heads";
    else if (s->head_dim == 0 || s->head_dim > 1u << 14 || s->head_dim % 2) bad = "the head dimension is not an even number up to 16384";
    else if (s->rope_dims == 0 || s->rope_dims > s->head_dim || s->rope_dims % 2) bad = "the rotated dimensions are not an even number up to the head's";
    else if (s->n_ff == 0 || s->n_ff > 1u << 24) bad = "the feed-forward length is not in 1..2^24";
    else if (s->n_vocab == 0 || s->n_vocab > 1u << 30) bad = "the vocabulary's size is not in 1..2^30";
    else if (!(s->norm_eps >= 0 && s->norm_eps < 1)) bad = "the norm's epsilon is not in 0..1";
    else if (!(s->rope_base > 0)) bad = "the rotary base is not positive";
    else if (!(s->rope_factor > 0)) bad = "the rotary scaling factor is not positive";
    else if (s->rope_scaling == PITH_ROPE_LLAMA3 && !(s->rope_high_freq_factor > s->rope_low_freq_factor && s->rope_low_freq_factor > 0 && s->rope_original_ctx > 0))
        bad = "llama 3's rotary scaling needs 0 < low < high frequency factor and the original context";
    else if (s->rope_scaling == PITH_ROPE_YARN && !(s->rope_beta_fast > 0 && s->rope_beta_slow > 0 && s->rope_original_ctx > 0 && s->rope_base > 1))
        bad = "YaRN needs positive betas, a base above 1 and the original context";
    if (!bad) return PITH_OK;
    return pith_fail(ctx, PITH_E_CORRUPT, "%s: settings of %s: %s (layers %u, embedding %u, heads %u/%u of %u, feed-forward %u, vocabulary %u)",
                     path, s->architecture, bad, s->n_layers, s->n_embd, s->n_heads, s->n_kv_heads, s->head_dim, s->n_ff, s->n_vocab);
}

float pith_yarn_attn_factor(float factor) { return factor > 1.0f ? 0.1f * logf(factor) + 1.0f : 1.0f; }

/* original_ctx / wavelength of frequency i: how often it turns within the original context */
static double turns(const pith_settings *s, size_t i)
{
    double frequency = pow((double)s->rope_base, -2.0 * (double)i / s->rope_dims);
    return s->rope_original_ctx * frequency / (2 * 3.14159265358979323846);
}

void pith_llama3_factors(const pith_settings *s, float *factors)
{
    double low = (double)s->rope_low_freq_factor, high = (double)s->rope_high_freq_factor, factor = (double)s->rope_factor;
    for (size_t i = 0; i < s->rope_dims / 2; i++) {
        double smooth = (turns(s, i) - low) / (high - low);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        factors[i] = (float)(1 / ((1 - smooth) / factor + smooth));
    }
}

bool pith_llama3_from_factors(pith_settings *s, const float *factors, size_t n)
{
    if (n == 0 || n != s->rope_dims / 2) return false;
    pith_settings t = *s;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(factors[i]) || factors[i] < 1.0f) return false;
    t.rope_factor = factors[n - 1];
    t.rope_scaling = t.rope_factor > 1.0f ? PITH_ROPE_LLAMA3 : PITH_ROPE_PLAIN;
    t.rope_low_freq_factor = 1.0f;
    t.rope_high_freq_factor = 4.0f;
    /* Only low/original_ctx and high/original_ctx can be told from the factors, so the context is set to llama 3's. */
    t.rope_original_ctx = 8192;
    /* Within the smooth part 1/factor is a line in the number of turns: two of its points give both ends. */
    size_t first = n, last = n;
    for (size_t i = 0; i < n; i++) {
        if (factors[i] <= 1.0f || factors[i] >= t.rope_factor) continue;
        if (first == n) first = i;
        last = i;
    }
    if (first != last) {
        double inverse = 1 / (double)t.rope_factor;
        double a = (1 / (double)factors[first] - inverse) / (1 - inverse), b = (1 / (double)factors[last] - inverse) / (1 - inverse);
        double per_smooth = (turns(&t, first) - turns(&t, last)) / (a - b), low = turns(&t, last) - b * per_smooth;
        double high = low + per_smooth;
        /* published models use quarters; take the rounded pair when it explains the factors as well */
        t.rope_low_freq_factor = (float)(round(low * 4) / 4);
        t.rope_high_freq_factor = (float)(round(high * 4) / 4);
        if (fabs(low - (double)t.rope_low_freq_factor) > 1e-3 || fabs(high - (double)t.rope_high_freq_factor) > 1e-3) {
            t.rope_low_freq_factor = (float)low;
            t.rope_high_freq_factor = (float)high;
        }
    }
    if (!(t.rope_low_freq_factor > 0 && t.rope_high_freq_factor > t.rope_low_freq_factor)) return false;
    for (size_t i = 0; i < n; i++) {
        double smooth = (turns(&t, i) - (double)t.rope_low_freq_factor) / ((double)t.rope_high_freq_factor - (double)t.rope_low_freq_factor);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        double expected = 1 / ((1 - smooth) / (double)t.rope_factor + smooth);
        if (fabs(expected - (double)factors[i]) > 1e-3 * expected) return false;
    }
    *s = t;
    return true;
}
