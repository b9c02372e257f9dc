/* Each operation's gradient, and the gradient of that, against differences. */
#include "differences.h"

#define UNARY(name) static pith_var *f_##name(pith_tape *tape, pith_var **x) { (void)tape; return pith_var_##name(x[0]); }
#define BINARY(name) static pith_var *f_##name(pith_tape *tape, pith_var **x) { (void)tape; return pith_var_##name(x[0], x[1]); }
#define EXPR(name, ...) static pith_var *f_##name(pith_tape *tape, pith_var **x) { (void)tape; return __VA_ARGS__; }

UNARY(neg) UNARY(abs) UNARY(square) UNARY(sqrt) UNARY(rsqrt) UNARY(reciprocal) UNARY(exp) UNARY(log) UNARY(sin) UNARY(cos) UNARY(erf)
UNARY(tanh) UNARY(sigmoid) UNARY(softplus) UNARY(relu) UNARY(silu) UNARY(gelu) UNARY(gelu_tanh)
EXPR(affine, pith_var_affine(x[0], -1.5f, 0.25f))
EXPR(pow, pith_var_pow(x[0], 2.5f))
EXPR(leaky_relu, pith_var_leaky_relu(x[0], 0.1f))
EXPR(elu, pith_var_elu(x[0], 1))
EXPR(clamp, pith_var_clamp(x[0], -10, 0.4f))
BINARY(silu_mul) BINARY(add) BINARY(sub) BINARY(mul) BINARY(div) BINARY(max) BINARY(min)
EXPR(self, pith_var_mul(pith_var_add(x[0], x[0]), x[0])) /* a second and a third use */
EXPR(broadcast, pith_var_broadcast(x[0], PITH_DIMS(4, 3, 5)))
EXPR(reshape, pith_var_square(pith_var_reshape(x[0], PITH_DIMS(x[0]->count))))
EXPR(permute, pith_var_square(pith_var_permute(x[0], (const int[]){2, 0, 1})))
EXPR(transpose, pith_var_square(pith_var_transpose(x[0], 0, -1)))
EXPR(slice_first, pith_var_square(pith_var_slice(x[0], 0, 1, 2)))
EXPR(slice_last, pith_var_square(pith_var_slice(x[0], -1, 2, 2)))
EXPR(pad, pith_var_square(pith_var_pad(x[0], 1, 2, 1)))
EXPR(concat, pith_var_square(pith_var_concat((pith_var *const[]){x[0], x[1], x[0]}, 3, 1)))
EXPR(sum, pith_var_square(pith_var_sum(x[0], PITH_ALL_AXES)))
EXPR(sum_middle, pith_var_square(pith_var_sum(x[0], PITH_AXIS(1))))
EXPR(sum_ends, pith_var_square(pith_var_sum(x[0], PITH_AXIS(0) | PITH_AXIS(2))))
EXPR(mean, pith_var_square(pith_var_mean(x[0], PITH_AXIS(1) | PITH_AXIS(2))))
EXPR(cumsum, pith_var_square(pith_var_cumsum(x[0], false)))
EXPR(cumsum_reverse, pith_var_square(pith_var_cumsum(x[0], true)))
EXPR(matmul, pith_var_matmul(x[0], x[1], false, false))
EXPR(matmul_ta, pith_var_matmul(x[0], x[1], true, false))
EXPR(matmul_tb, pith_var_matmul(x[0], x[1], false, true))
EXPR(matmul_tt, pith_var_matmul(x[0], x[1], true, true))
EXPR(linear, pith_var_linear(x[0], x[1], x[2]))
EXPR(linear_plain, pith_var_linear(x[0], x[1], NULL))
EXPR(einsum_scores, pith_var_einsum(x[0], x[1], "bhqd,bhkd->bhqk"))
EXPR(einsum_any, pith_var_einsum(x[0], x[1], "xaby, bycz -> czab")) /* x and no batch: summed alone, and permuted back */
EXPR(einsum_outer, pith_var_einsum(x[0], x[1], "i,j->ji"))
EXPR(einsum_dot, pith_var_einsum(x[0], x[1], "ij,ij->"))
EXPR(rfft, pith_var_square(pith_var_rfft(x[0])))
EXPR(irfft, pith_var_square(pith_var_irfft(x[0], x[0]->dims[0] == 4 ? 6 : 5)))
EXPR(rfft2, pith_var_square(pith_var_rfft2(x[0])))
EXPR(fft, pith_var_square(pith_var_fft(x[0], 1, false)))
EXPR(ifft, pith_var_square(pith_var_fft(x[0], 1, true)))
static const int32_t picks[] = {2, 0, 2, 1, 1, 2, 0, 0, 1}, labels[] = {1, 0, PITH_NO_LABEL, 2};
EXPR(rows, pith_var_square(pith_var_rows(x[0], picks, PITH_DIMS(2, 3))))
EXPR(index_add, pith_var_square(pith_var_index_add(x[0], picks, 4)))
EXPR(gather, pith_var_square(pith_var_gather(x[0], picks, 3)))
EXPR(scatter, pith_var_square(pith_var_scatter_add(x[0], picks, 5)))
EXPR(top_k, pith_var_square(pith_var_top_k(x[0], 3, NULL)))
EXPR(max_last, pith_var_square(pith_var_max_last(x[0])))
UNARY(softmax) UNARY(log_softmax) UNARY(logsumexp) BINARY(mse) BINARY(l1) BINARY(bce) BINARY(hinge) BINARY(kl)
EXPR(cross_entropy, pith_var_cross_entropy(x[0], labels))
EXPR(contrastive, pith_var_contrastive(x[0], x[1], 0.5f))
EXPR(unit, pith_var_unit(x[0], 1e-6f))
EXPR(draw_normal, pith_var_draw_normal(x[0], x[1]))
EXPR(gumbel_softmax, pith_var_gumbel_softmax(x[0], 0.8f, false))
EXPR(hard_concrete, pith_var_hard_concrete(x[0], 0.9f))
EXPR(hard_concrete_open, pith_var_hard_concrete_open(x[0], 0.66f))
EXPR(dropout, pith_var_square(pith_var_dropout(x[0], 0.3f)))

static float moving[2][3];
static const pith_attention full = {0}, causal = {.causal = true}, windowed = {.causal = true, .window = 5, .scale = 0.7f}, some_keys = {.n_keys = (const int32_t[]){3, 1}};
static const pith_conv same = {.padding = {1, 1, 1}}, odd = {.groups = 2, .stride = {2, 3}, .padding = {2, 1}, .dilation = {1, 2}}, up = {.stride = {2, 2}, .padding = {1, 1}, .output_padding = {1, 0}};
static const pith_pool_window pool = {.size = {2, 3}, .stride = {2, 1}, .padding = {1, 1}};
EXPR(layer_norm, pith_var_layer_norm(x[0], x[1], x[2], 1e-3f))
EXPR(rms_norm, pith_var_rms_norm(x[0], x[1], 1e-3f))
EXPR(group_norm, pith_var_group_norm(x[0], 2, x[1], x[2], 1e-3f))
EXPR(batch_norm, pith_var_batch_norm(x[0], x[1], x[2], 1e-3f, moving[0], moving[1], 0.1f))
static const float still[2][3] = {{0.5f, -1, 0.1f}, {0.7f, 1.5f, 1}};
EXPR(batch_norm_fixed, pith_var_batch_norm_fixed(x[0], x[1], x[2], 1e-3f, still[0], still[1]))
EXPR(attention, pith_var_attention(x[0], x[1], x[2], &full))
EXPR(attention_causal, pith_var_attention(x[0], x[1], x[2], &causal))
EXPR(attention_windowed, pith_var_attention(x[0], x[1], x[2], &windowed))
EXPR(attention_some, pith_var_attention(x[0], x[1], x[2], &some_keys))
EXPR(attention_heads, pith_var_attention_heads(x[0], x[1], x[2], 4, 2, &full))
EXPR(attention_packed, pith_var_attention_packed(x[0], 2, &causal))
EXPR(attention_packed_windowed, pith_var_attention_packed(x[0], 2, &windowed))
EXPR(attention_self, pith_var_attention_heads(x[0], x[0], x[0], 2, 2, &some_keys))
EXPR(conv, pith_var_conv(x[0], x[1], x[2], &same))
EXPR(conv_odd, pith_var_conv(x[0], x[1], NULL, &odd))
EXPR(conv_transposed, pith_var_conv_transposed(x[0], x[1], x[2], &up))
EXPR(max_pool, pith_var_square(pith_var_max_pool(x[0], &pool)))
EXPR(avg_pool, pith_var_square(pith_var_avg_pool(x[0], &pool)))
static const pith_pool_window pool3 = {.size = {2, 3, 2}, .stride = {1, 2, 2}, .padding = {1, 1, 0}};
EXPR(max_pool3, pith_var_square(pith_var_max_pool(x[0], &pool3)))
EXPR(avg_pool3, pith_var_square(pith_var_avg_pool(x[0], &pool3)))
EXPR(nearest, pith_var_square(pith_var_interpolate(x[0], 5, 7, false)))
EXPR(linear_between, pith_var_square(pith_var_interpolate(x[0], 5, 7, true)))
EXPR(smaller, pith_var_square(pith_var_interpolate(x[0], 2, 2, true)))

static const pith_hash_grid grid = {.n_levels = 3, .n_features = 2, .n_entries = 20, .coarsest = 2, .growth = 1.5f}; /* 9, 16, then 25 corners in 20 entries */
/* points (here none of the gradient's) of the golden ratio's multiples */
static pith_var *f_hash_grid(pith_tape *tape, pith_var **x)
{
    pith_var *points = pith_tape_fill(tape, 0, PITH_DIMS(40, 2));
    for (size_t i = 0; points && i < points->count; i++) points->data[i] = fmodf(0.618034f * (float)(i + 1), 1);
    return pith_var_hash_grid(points, x[0], &grid);
}
static pith_var *f_hash_points(pith_tape *tape, pith_var **x)
{
    pith_var *table = pith_tape_fill(tape, 0, PITH_DIMS(45, 2));
    for (size_t i = 0; table && i < table->count; i++) table->data[i] = fmodf(0.7548777f * (float)(i * i), 1);
    return pith_var_hash_grid(x[0], table, &grid);
}
EXPR(scan, pith_var_linear_scan(x[0], x[1], x[2], x[3], NULL, false, NULL))
EXPR(scan_before, pith_var_linear_scan(x[0], x[1], x[2], x[3], NULL, true, NULL))
EXPR(scan_state, pith_var_linear_scan(x[0], x[0], x[1], x[2], x[3], false, NULL))
EXPR(rnn_tanh, pith_var_recurrent(PITH_CELL_TANH, x[0], x[1], x[2], x[3], NULL, NULL))
EXPR(rnn_relu, pith_var_recurrent(PITH_CELL_RELU, x[0], x[1], NULL, NULL, NULL, NULL))
EXPR(lstm, pith_var_recurrent(PITH_CELL_LSTM, x[0], x[1], NULL, x[2], x[3], NULL))
EXPR(lstm_bias, pith_var_recurrent(PITH_CELL_LSTM, x[0], x[1], x[2], NULL, NULL, NULL))
EXPR(lstm_1997, pith_var_recurrent(PITH_CELL_LSTM_1997, x[0], x[1], NULL, x[2], x[3], NULL))
EXPR(lstm_peep, pith_var_recurrent_peep(PITH_CELL_LSTM, x[0], x[1], NULL, x[2], NULL, x[3], NULL))
EXPR(lstm_1997_peep, pith_var_recurrent_peep(PITH_CELL_LSTM_1997, x[0], x[1], NULL, x[2], NULL, x[3], NULL))
EXPR(gru, pith_var_recurrent(PITH_CELL_GRU, x[0], x[1], x[2], x[3], NULL, NULL))

static const int32_t spoken[] = {1, 1, 2, 0, 0, 0, 2, 1, 2}, spoken_steps[] = {5, 3, 6}, spoken_labels[] = {3, 0, 2};
EXPR(ctc, pith_var_ctc(x[0], spoken, 3, &(pith_ctc){.blank = 3, .n_steps = spoken_steps, .n_labels = spoken_labels}))
EXPR(ctc_skip, pith_var_ctc(x[0], spoken, 3, &(pith_ctc){.blank = 3, .n_labels = spoken_labels, .skip_impossible = true}))
EXPR(ctc_empty, pith_var_ctc(x[0], NULL, 0, &(pith_ctc){.blank = 0}))
/* with random numbers, which are the same each time */
static pith_var *square_of_tanh(pith_tape *tape, void *user)
{
    (void)tape;
    return pith_var_dropout(pith_var_square(pith_var_tanh(pith_var_mul(((pith_var **)user)[0], ((pith_var **)user)[1]))), 0.3f);
}
EXPR(checkpoint, pith_var_mul(pith_checkpoint(tape, square_of_tanh, x), pith_var_dropout(x[0], 0.5f)))

#define S(...) {(int)PITH_COUNT(((size_t[]){__VA_ARGS__})), {__VA_ARGS__}}
#define POSITIVE .low = 0.5f, .high = 2.5f
#define AWAY .low = 0.1f, .high = 0.3f /* from where the slope jumps */
#define BELOW .low = -2, .high = -0.1f

static const check checks[] = {
    {"neg", f_neg, 1, {S(7)}}, {"abs", f_abs, 1, {S(3, 5)}, AWAY}, {"abs below", f_abs, 1, {S(17)}, BELOW}, {"square", f_square, 1, {S(33)}},
    {"sqrt", f_sqrt, 1, {S(19)}, POSITIVE}, {"rsqrt", f_rsqrt, 1, {S(19)}, POSITIVE}, {"reciprocal", f_reciprocal, 1, {S(19)}, POSITIVE},
    {"exp", f_exp, 1, {S(2, 9)}}, {"log", f_log, 1, {S(18)}, POSITIVE}, {"pow", f_pow, 1, {S(18)}, POSITIVE},
    {"sin", f_sin, 1, {S(18)}}, {"cos", f_cos, 1, {S(18)}}, {"erf", f_erf, 1, {S(18)}}, {"tanh", f_tanh, 1, {S(18)}}, {"sigmoid", f_sigmoid, 1, {S(18)}},
    {"softplus", f_softplus, 1, {S(18)}}, {"relu", f_relu, 1, {S(18)}, AWAY}, {"relu below", f_relu, 1, {S(18)}, BELOW},
    {"leaky_relu", f_leaky_relu, 1, {S(18)}, BELOW}, {"elu", f_elu, 1, {S(18)}, BELOW}, {"elu above", f_elu, 1, {S(18)}, AWAY}, {"silu", f_silu, 1, {S(18)}}, {"silu_mul", f_silu_mul, 2, {S(3, 5), S(3, 5)}}, {"silu_mul nothing", f_silu_mul, 2, {S(0, 5), S(0, 5)}}, {"gelu", f_gelu, 1, {S(18)}},
    {"gelu_tanh", f_gelu_tanh, 1, {S(18)}}, {"affine", f_affine, 1, {S(18)}}, {"clamp", f_clamp, 1, {S(18)}, AWAY}, {"clamped", f_clamp, 1, {S(18)}, POSITIVE},
    {"nothing", f_exp, 1, {S(3, 0)}}, {"scalar", f_exp, 1, {{0, {0}}}},
    {"add", f_add, 2, {S(3, 5), S(3, 5)}}, {"add a row", f_add, 2, {S(4, 3, 5), S(5)}}, {"sub a column", f_sub, 2, {S(4, 1), S(3, 4, 5)}},
    {"mul", f_mul, 2, {S(3, 5), S(3, 5)}}, {"mul channels", f_mul, 2, {S(2, 3, 4, 5), S(3, 1, 1)}}, {"mul both ways", f_mul, 2, {S(3, 1), S(1, 5)}},
    {"mul a scalar", f_mul, 2, {{0, {0}}, S(7)}}, {"mul nothing", f_mul, 2, {S(0, 3), S(3)}}, {"div", f_div, 2, {S(3, 5), S(5)}, POSITIVE},
    {"max", f_max, 2, {S(9), S(9)}, .low = -20, .high = 20}, {"min", f_min, 2, {S(9), S(9)}, .low = -20, .high = 20},
    {"uses", f_self, 1, {S(5)}}, {"broadcast", f_broadcast, 1, {S(3, 1)}},
    {"reshape", f_reshape, 1, {S(3, 5)}}, {"permute", f_permute, 1, {S(3, 4, 5)}}, {"permute ones", f_permute, 1, {S(3, 1, 5)}}, {"transpose", f_transpose, 1, {S(17, 19)}}, {"permute nothing", f_permute, 1, {S(3, 0, 2)}},
    {"slice_first", f_slice_first, 1, {S(4, 3)}}, {"slice_last", f_slice_last, 1, {S(3, 5)}}, {"pad", f_pad, 1, {S(3, 2, 2)}}, {"pad nothing", f_pad, 1, {S(3, 0, 2)}}, {"concat", f_concat, 2, {S(2, 3, 2), S(2, 1, 2)}},
    {"sum", f_sum, 1, {S(3, 5)}}, {"sum nothing", f_sum, 1, {S(3, 0)}}, {"sum one", f_sum, 1, {{0, {0}}}}, {"sum_middle", f_sum_middle, 1, {S(3, 5, 4)}}, {"sum many", f_sum_middle, 1, {S(1, 1100, 2)}, .tolerance = 2e-3}, {"sum_ends", f_sum_ends, 1, {S(3, 5, 4)}}, {"mean", f_mean, 1, {S(3, 5, 4)}},
    {"cumsum", f_cumsum, 1, {S(3, 5)}}, {"cumsum_reverse", f_cumsum_reverse, 1, {S(2, 6)}},
    {"matmul", f_matmul, 2, {S(3, 5), S(5, 7)}}, {"matmul ta", f_matmul_ta, 2, {S(5, 3), S(5, 7)}}, {"matmul tb", f_matmul_tb, 2, {S(3, 5), S(17, 5)}}, {"matmul tt", f_matmul_tt, 2, {S(5, 3), S(7, 5)}},
    {"matmuls", f_matmul, 2, {S(2, 3, 5), S(2, 5, 7)}}, {"matmuls ta", f_matmul_ta, 2, {S(2, 5, 3), S(2, 5, 7)}}, {"matmuls tb", f_matmul_tb, 2, {S(2, 3, 5), S(2, 7, 5)}}, {"matmuls tt", f_matmul_tt, 2, {S(2, 5, 3), S(2, 7, 5)}},
    {"one left", f_matmul, 2, {S(3, 5), S(2, 5, 7)}}, {"one left ta", f_matmul_ta, 2, {S(5, 3), S(2, 5, 7)}}, {"one right", f_matmul, 2, {S(2, 3, 5), S(5, 7)}}, {"one right tb", f_matmul_tb, 2, {S(2, 3, 5), S(7, 5)}}, {"one right ta", f_matmul_ta, 2, {S(2, 5, 3), S(5, 7)}},
    {"matmul ones", f_matmul, 2, {S(1, 1), S(1, 1)}}, {"matmul k 0", f_matmul, 2, {S(3, 0), S(0, 2)}}, {"matmuls k 0", f_matmul, 2, {S(2, 3, 0), S(0, 4)}}, {"matmul m 0", f_matmul, 2, {S(0, 3), S(3, 2)}},
    {"linear", f_linear, 3, {S(2, 3, 5), S(17, 5), S(17)}}, {"linear row", f_linear, 3, {S(5), S(2, 5), S(2)}}, {"linear turned", f_linear, 3, {S(2, 9), S(40, 9), S(40)}}, {"linear_plain", f_linear_plain, 2, {S(3, 5), S(2, 5)}}, {"linear nothing", f_linear, 3, {S(0, 5), S(2, 5), S(2)}},
    {"einsum scores", f_einsum_scores, 2, {S(2, 2, 3, 4), S(2, 2, 5, 4)}}, {"einsum any", f_einsum_any, 2, {S(2, 3, 2, 4), S(2, 4, 3, 2)}}, {"einsum outer", f_einsum_outer, 2, {S(3), S(5)}}, {"einsum dot", f_einsum_dot, 2, {S(3, 5), S(3, 5)}},
    {"einsum of one", f_einsum_scores, 2, {S(1, 1, 1, 1), S(1, 1, 1, 1)}}, {"einsum of nothing", f_einsum_scores, 2, {S(2, 0, 3, 4), S(2, 0, 5, 4)}}, {"einsum over nothing", f_einsum_dot, 2, {S(3, 0), S(3, 0)}},
    {"rfft", f_rfft, 1, {S(3, 6)}}, {"rfft odd", f_rfft, 1, {S(2, 5)}}, {"rfft of one", f_rfft, 1, {S(2, 1)}}, {"rfft of two", f_rfft, 1, {S(2)}}, {"rfft of no rows", f_rfft, 1, {S(0, 4)}}, {"rfft bluestein", f_rfft, 1, {S(17)}, .tolerance = 1e-3},
    {"irfft", f_irfft, 1, {S(4, 2)}}, {"irfft odd", f_irfft, 1, {S(3, 2)}}, {"rfft2", f_rfft2, 1, {S(2, 3, 4)}}, {"fft", f_fft, 1, {S(2, 3, 2, 2)}}, {"ifft", f_ifft, 1, {S(2, 4, 2)}},
    {"rows", f_rows, 1, {S(3, 5)}}, {"index_add", f_index_add, 1, {S(9, 3)}}, {"gather", f_gather, 1, {S(3, 4)}}, {"scatter", f_scatter, 1, {S(3, 3)}},
    {"top_k", f_top_k, 1, {S(2, 9)}, .low = -40, .high = 40, .tolerance = 2e-3}, {"max_last", f_max_last, 1, {S(3, 6)}, .low = -40, .high = 40, .tolerance = 2e-3},
    {"softmax", f_softmax, 1, {S(3, 17)}}, {"softmax of one", f_softmax, 1, {S(3, 1)}}, {"softmax of nothing", f_softmax, 1, {S(0, 4)}}, {"log_softmax", f_log_softmax, 1, {S(3, 17)}}, {"logsumexp", f_logsumexp, 1, {S(2, 3, 5)}},
    {"mse", f_mse, 2, {S(3, 5), S(3, 5)}}, {"l1", f_l1, 2, {S(9), S(9)}, .low = -30, .high = 30}, {"bce", f_bce, 2, {S(9), S(9)}}, {"hinge", f_hinge, 2, {S(9), S(9)}, .low = 0.1f, .high = 0.9f}, {"kl", f_kl, 2, {S(3, 5), S(3, 5)}},
    {"cross_entropy", f_cross_entropy, 1, {S(4, 3)}}, {"cross_entropy wide", f_cross_entropy, 1, {S(2, 2, 19)}}, {"contrastive", f_contrastive, 2, {S(5, 3), S(5, 3)}}, {"unit", f_unit, 1, {S(3, 5)}, POSITIVE},
    {"draw_normal", f_draw_normal, 2, {S(3, 5), S(3, 5)}}, {"gumbel_softmax", f_gumbel_softmax, 1, {S(3, 5)}}, {"hard_concrete", f_hard_concrete, 1, {S(9)}, AWAY}, {"hard_concrete_open", f_hard_concrete_open, 1, {S(9)}}, {"dropout", f_dropout, 1, {S(19)}},
    {"layer_norm", f_layer_norm, 3, {S(3, 17), S(17), S(17)}, .low = -2, .high = 2}, {"layer_norm blocks", f_layer_norm, 3, {S(66, 9), S(9), S(9)}, .low = -2, .high = 2}, {"layer_norm nothing", f_layer_norm, 3, {S(0, 7), S(7), S(7)}}, {"rms_norm", f_rms_norm, 2, {S(2, 2, 9), S(9)}, .low = -2, .high = 2},
    {"group_norm", f_group_norm, 3, {S(2, 4, 3, 2), S(4), S(4)}, .low = -2, .high = 2}, {"batch_norm", f_batch_norm, 3, {S(3, 3, 2, 5), S(3), S(3)}, .low = -2, .high = 2}, {"group_norm planes", f_group_norm, 3, {S(2, 4, 3, 6), S(4), S(4)}, .low = -2, .high = 2}, {"batch_norm planes", f_batch_norm, 3, {S(2, 3, 3, 6), S(3), S(3)}, .low = -2, .high = 2}, {"batch_norm fixed", f_batch_norm_fixed, 3, {S(3, 3, 2), S(3), S(3)}}, {"batch_norm rows", f_batch_norm, 3, {S(9, 3), S(3), S(3)}, .low = -2, .high = 2},
    {"attention", f_attention, 3, {S(2, 2, 5, 3), S(2, 2, 5, 3), S(2, 2, 5, 3)}}, {"attention across", f_attention, 3, {S(1, 4, 3, 17), S(1, 2, 19, 17), S(1, 2, 19, 17)}}, {"attention to one", f_attention, 3, {S(1, 1, 1, 1), S(1, 1, 1, 1), S(1, 1, 1, 1)}},
    {"attention causal", f_attention_causal, 3, {S(1, 2, 50, 4), S(1, 1, 51, 4), S(1, 1, 51, 4)}}, {"attention windowed", f_attention_windowed, 3, {S(1, 1, 60, 3), S(1, 1, 60, 3), S(1, 1, 60, 3)}}, {"hash grid", f_hash_grid, 1, {S(45, 2)}}, {"hash grid by points", f_hash_points, 1, {S(3, 2)}, .low = 0.05f, .high = 0.2f},
    {"scan", f_scan, 4, {S(2, 1, 35, 2), S(2, 1, 35, 2), S(2, 2, 35, 3), S(2, 2, 35, 1)}, .low = -1, .high = -0.1f},
    {"scan before", f_scan_before, 4, {S(1, 2, 33, 3), S(1, 2, 33, 3), S(1, 2, 33, 2), S(1, 2, 33, 3)}, .low = -1, .high = -0.1f},
    {"scan state", f_scan_state, 4, {S(2, 1, 4, 3), S(2, 2, 4, 2), S(2, 2, 4, 3), S(2, 2, 3, 2)}, .low = -1, .high = -0.1f}, {"rnn tanh", f_rnn_tanh, 4, {S(4, 2, 3), S(3, 3), S(3), S(2, 3)}}, {"rnn relu", f_rnn_relu, 2, {S(3, 2, 3), S(3, 3)}, .low = 0.1f, .high = 0.3f},
    {"lstm", f_lstm, 4, {S(4, 3, 8), S(8, 2), S(3, 2), S(3, 2)}}, {"lstm bias", f_lstm_bias, 3, {S(2, 17, 12), S(12, 3), S(12)}},
    {"lstm wide", f_lstm, 4, {S(2, 2, 76), S(76, 19), S(2, 19), S(2, 19)}}, {"lstm peep wide", f_lstm_peep, 4, {S(2, 1, 64), S(64, 16), S(3, 16), S(1, 16)}},
    {"lstm 1997", f_lstm_1997, 4, {S(4, 3, 6), S(6, 2), S(3, 2), S(3, 2)}}, {"lstm 1997 wide", f_lstm_1997, 4, {S(2, 1, 57), S(57, 19), S(1, 19), S(1, 19)}}, {"lstm peep", f_lstm_peep, 4, {S(4, 3, 8), S(8, 2), S(3, 2), S(3, 2)}},
    {"lstm 1997 peep", f_lstm_1997_peep, 4, {S(4, 3, 6), S(6, 2), S(2, 2), S(3, 2)}}, {"lstm peep none", f_lstm_peep, 4, {S(0, 3, 8), S(8, 2), S(3, 2), S(3, 2)}},
    {"gru", f_gru, 4, {S(4, 2, 9), S(9, 3), S(9), S(2, 3)}}, {"gru none", f_gru, 4, {S(0, 2, 9), S(9, 3), S(9), S(2, 3)}},
    {"ctc", f_ctc, 1, {S(3, 6, 4)}}, {"ctc skip", f_ctc_skip, 1, {S(3, 3, 4)}}, {"ctc of one", f_ctc_empty, 1, {S(1, 1, 1)}}, {"ctc without labels", f_ctc_empty, 1, {S(2, 3, 3)}}, {"ctc without steps", f_ctc_empty, 1, {S(2, 0, 3)}}, {"ctc of no sequences", f_ctc_empty, 1, {S(0, 2, 3)}},
    {"checkpoint", f_checkpoint, 2, {S(3, 5), S(5)}},
    {"attention heads", f_attention_heads, 3, {S(2, 3, 20), S(2, 7, 10), S(2, 7, 10)}}, {"attention packed", f_attention_packed, 1, {S(2, 9, 18)}},
    {"attention packed windowed", f_attention_packed_windowed, 1, {S(1, 52, 6)}}, {"attention to itself", f_attention_self, 1, {S(2, 4, 6)}},
    {"attention some keys", f_attention_some, 3, {S(2, 2, 5, 4), S(2, 1, 4, 4), S(2, 1, 4, 4)}},
    {"conv", f_conv, 3, {S(2, 3, 5, 6), S(4, 3, 3, 3), S(4)}}, {"conv 1d", f_conv, 3, {S(2, 3, 7), S(2, 3, 3), S(2)}}, {"conv 3d", f_conv, 3, {S(1, 2, 2, 3, 4), S(3, 2, 2, 1, 3), S(3)}}, {"conv odd", f_conv_odd, 2, {S(2, 4, 7, 9), S(6, 2, 3, 2)}}, {"conv nothing", f_conv, 3, {S(0, 3, 4, 4), S(2, 3, 3, 3), S(2)}},
    {"conv_transposed", f_conv_transposed, 3, {S(2, 3, 3, 4), S(3, 2, 3, 4), S(2)}}, {"max_pool", f_max_pool, 1, {S(2, 2, 4, 5)}, .low = -90, .high = 90, .tolerance = 5e-3}, {"avg_pool", f_avg_pool, 1, {S(2, 2, 4, 5)}},
    {"max_pool 3d", f_max_pool3, 1, {S(2, 1, 3, 4, 4)}, .low = -90, .high = 90, .tolerance = 5e-3}, {"avg_pool 3d", f_avg_pool3, 1, {S(2, 2, 3, 4, 5)}}, {"avg_pool 3d of one", f_avg_pool3, 1, {S(1, 1, 1, 1, 2)}}, {"max_pool 3d of nothing", f_max_pool3, 1, {S(0, 2, 3, 4, 4)}}, {"avg_pool 1d", f_avg_pool, 1, {S(2, 2, 4)}},
    {"nearest", f_nearest, 1, {S(2, 2, 3, 4)}}, {"linear between", f_linear_between, 1, {S(2, 2, 3, 4)}}, {"smaller", f_smaller, 1, {S(1, 2, 5, 3)}},
};

static void test_gradients(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    for (size_t i = 0; i < PITH_COUNT(checks); i++) check_gradient(ctx, &checks[i]);
    pith_ctx_free(ctx);
}

/* An operation and its recorded pass. */
static pith_status record(pith_ctx *ctx, const void *user)
{
    const check *c = user;
    pith_tape *tape;
    PITH_TRY(pith_tape_new(ctx, 7, &tape));
    pith_var *x[MAX_ARGS] = {0}, *gx[MAX_ARGS];
    pith_status status = PITH_OK;
    for (int a = 0; a < c->n_args && status == PITH_OK; a++) {
        x[a] = pith_tape_param(tape, "x", c->shapes[a].n_dims, c->shapes[a].dims);
        if (x[a]) fill_random(x[a]->data, x[a]->count, (uint64_t)a, c->low, c->high);
        else status = PITH_E_MEMORY;
    }
    if (status == PITH_OK) {
        pith_tape_step(tape, 1);
        pith_var *y = c->fn(tape, x), *sum = y ? pith_var_sum(pith_var_square(y), PITH_ALL_AXES) : NULL;
        status = sum ? pith_gradients(tape, sum, NULL, x, (size_t)c->n_args, PITH_RECORD_PASS, gx) : pith_tape_status(tape);
    }
    pith_tape_free(tape);
    return status;
}

static void test_failing_memory(void **state)
{
    (void)state;
    static const char *const names[] = {"hash grid", "scan", "lstm", "gru", "ctc", "checkpoint", "rfft", "rfft bluestein", "einsum any", "max_pool 3d"};
    size_t n_found = 0;
    for (size_t i = 0; i < PITH_COUNT(checks); i++) {
        bool chosen = false;
        for (size_t k = 0; k < PITH_COUNT(names); k++) chosen |= strcmp(checks[i].name, names[k]) == 0;
        if (!chosen) continue;
        n_found++;
        assert_in_range(test_every_fault_with(record, &checks[i], &(test_fault_options){.name = checks[i].name}), 1, 1500);
    }
    assert_int_equal(n_found, PITH_COUNT(names));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_failing_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
