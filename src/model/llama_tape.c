/* The llama on a tape. */
#include "model/llama_tape.h"

#include "model/llama_network.h"

#define ROTATE_VALUES ((size_t)16384) /* a task */

/* Some texts on their way through the layers.  In the step's memory, as checkpointed layers come back to it. */
typedef struct recording {
    pith_tape *tape;
    pith_llama *m;
    const int32_t *ids;
    size_t n_texts, len;
    bool checkpoint;
    const float *cos, *sin, *minus_sin; /* [len, rope_dims / 2] the step's own: the model's table may move */
    pith_var *value[LLAMA_N_VALUES]; /* [n_texts, len, …] */
} recording;

static pith_status result(const recording *r, llama_value which)
{
    return r->value[which] ? PITH_OK : pith_tape_status(r->tape);
}

/* NULL for a vector that the model has not. */
static pith_var *recorded(const recording *r, const pith_llama_vector *v, size_t n)
{
    if (v->param || !v->x) return v->param;
    return pith_tape_input(r->tape, v->x, PITH_DIMS(n));
}

/* x v where there is such a vector */
static pith_var *scaled(const recording *r, pith_var *x, const pith_llama_vector *v, size_t n)
{
    return v->x ? pith_var_mul(x, recorded(r, v, n)) : x;
}

/* ---- heads ------------------------------------------------------------------------------------ */

typedef struct heads_attr {
    const float *cos, *sin, *minus_sin; /* [len, half] */
    size_t n_texts, len, heads, d, half; /* half 0: not rotated */
    bool pairs, back;
} heads_attr;

typedef struct heads_work {
    const heads_attr *a;
    const pith_kernels *kernels;
    const float *x;
    float *y;
} heads_work;

/* Token i of all texts: its heads go from beside each other into their own matrices, and are rotated on the way. */
static void turn_tokens(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const heads_work *w = arg;
    const heads_attr *a = w->a;
    for (size_t i = from; i < to; i++) {
        size_t text = i / a->len, at = i % a->len;
        for (size_t h = 0; h < a->heads; h++) {
            size_t beside = (i * a->heads + h) * a->d, apart = ((text * a->heads + h) * a->len + at) * a->d;
            float *y = w->y + (a->back ? beside : apart);
            memcpy(y, w->x + (a->back ? apart : beside), a->d * sizeof *y);
            if (a->half) w->kernels->rope(y, a->cos + at * a->half, a->sin + at * a->half, 2 * a->half, a->pairs);
        }
    }
}

static pith_var *turn_heads(pith_var *x, const heads_attr *a);

/* A rotation's transpose is the rotation by the negative angle (YaRN's factor is in both tables). */
static void turn_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    heads_attr back = *(const heads_attr *)y->attr;
    const float *sin = back.sin;
    back.sin = back.minus_sin;
    back.minus_sin = sin;
    back.back = !back.back;
    gx[0] = turn_heads(gy, &back);
}

/* [n_texts, len, heads d] -> [n_texts, heads, len, d], or back. */
static pith_var *turn_heads(pith_var *x, const heads_attr *a)
{
    static const pith_op op = {"heads", turn_backward};
    if (!x) return NULL;
    const size_t together[] = {a->n_texts, a->len, a->heads * a->d}, apart[] = {a->n_texts, a->heads, a->len, a->d};
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, a->back ? 3 : 4, a->back ? together : apart, sizeof *a);
    if (!y) return NULL;
    *(heads_attr *)y->attr = *a;
    heads_work w = {a, pith_kernels_get(pith_tape_ctx(x->tape)), x->data, y->data};
    pith_op_ranges(x->tape, a->n_texts * a->len, PITH_CEIL_DIV(ROTATE_VALUES, a->heads * a->d), turn_tokens, &w);
    return y;
}

/* ---- the engine ------------------------------------------------------------------------------- */

static pith_status embed(void *run)
{
    recording *r = run;
    pith_var *x = pith_operator_record_rows(r->tape, r->m->embedding, r->ids, PITH_DIMS(r->n_texts, r->len));
    r->value[LLAMA_X] = scaled(r, x, &r->m->embedding_scale, r->m->s.n_embd);
    return result(r, LLAMA_X);
}

static pith_status add(void *run)
{
    recording *r = run;
    r->value[LLAMA_X] = pith_var_add(r->value[LLAMA_X], r->value[LLAMA_H]);
    return result(r, LLAMA_X);
}

static pith_status norm(void *run, const pith_llama_vector *gain)
{
    recording *r = run;
    r->value[LLAMA_H] = pith_var_rms_norm(r->value[LLAMA_X], recorded(r, gain, r->m->s.n_embd), r->m->s.norm_eps);
    return result(r, LLAMA_H);
}

static pith_status multiply(void *run, pith_operator *const *ops, size_t n_ops, llama_value from, const llama_value *to)
{
    recording *r = run;
    pith_var *x = r->value[from];
    for (size_t k = 0; k < n_ops; k++) {
        if (r->m->tap && x) r->m->tap(r->m->tap_user, ops[k], x->data, x->count / ops[k]->n_cols, ops[k]->n_cols);
        r->value[to[k]] = pith_operator_record(ops[k], x);
        PITH_TRY(result(r, to[k]));
    }
    return PITH_OK;
}

static pith_status attend(void *run, const pith_llama_layer *l, size_t i_layer)
{
    (void)i_layer;
    recording *r = run;
    const pith_settings *s = &r->m->s;
    const struct {
        llama_value value;
        const pith_llama_vector *bias;
        size_t heads;
        bool rotated;
    } sides[] = {{LLAMA_Q, &l->q_bias, s->n_heads, true}, {LLAMA_K, &l->k_bias, s->n_kv_heads, true}, {LLAMA_V, &l->v_bias, s->n_kv_heads, false}};
    heads_attr a = {.cos = r->cos, .sin = r->sin, .minus_sin = r->minus_sin, .n_texts = r->n_texts, .len = r->len, .d = s->head_dim, .pairs = s->rope_style == PITH_ROPE_PAIRS};
    pith_var *side[3];
    for (size_t k = 0; k < 3; k++) {
        pith_var *x = r->value[sides[k].value];
        a.heads = sides[k].heads;
        a.half = sides[k].rotated ? s->rope_dims / 2 : 0;
        if (sides[k].bias->x) x = pith_var_add(x, recorded(r, sides[k].bias, a.heads * a.d));
        side[k] = turn_heads(x, &a);
    }
    pith_var *att = pith_var_attention(side[0], side[1], side[2], &(pith_attention){.causal = true, .window = s->sliding_window});
    a.heads = s->n_heads;
    a.half = 0;
    a.back = true;
    r->value[LLAMA_ATT] = scaled(r, turn_heads(att, &a), &l->o_scale, (size_t)s->n_heads * s->head_dim);
    return result(r, LLAMA_ATT);
}

static pith_status gate(void *run, const pith_llama_layer *l)
{
    recording *r = run;
    r->value[LLAMA_GATE] = scaled(r, pith_var_silu_mul(r->value[LLAMA_GATE], r->value[LLAMA_UP]), &l->down_scale, r->m->s.n_ff);
    return result(r, LLAMA_GATE);
}

static pith_status layer(void *run, size_t i_layer);
static const llama_engine engine = {.embed = embed, .layer = layer, .norm = norm, .multiply = multiply, .attend = attend, .gate = gate, .add = add};

/* A layer that is computed again from its X in the backward pass. */
typedef struct segment {
    recording r;
    size_t i_layer;
} segment;

static pith_var *run_segment(pith_tape *tape, void *user)
{
    (void)tape;
    const segment *s = user;
    recording r = s->r;
    return llama_layer(&engine, &r, r.m, s->i_layer) == PITH_OK ? r.value[LLAMA_X] : NULL;
}

static pith_status layer(void *run, size_t i_layer)
{
    recording *r = run;
    if (!r->checkpoint) return llama_layer(&engine, r, r->m, i_layer);
    segment *s = pith_op_attr(r->tape, 1, sizeof *s);
    if (!s) return pith_tape_status(r->tape);
    *s = (segment){*r, i_layer};
    r->value[LLAMA_X] = pith_checkpoint(r->tape, run_segment, s);
    return result(r, LLAMA_X);
}

/* ---- calls ------------------------------------------------------------------------------------ */

static pith_status start(recording *r)
{
    pith_ctx *ctx = pith_tape_ctx(r->tape);
    size_t n;
    PITH_TRY(pith_tape_status(r->tape));
    if (r->len > r->m->s.n_ctx) return pith_fail(ctx, PITH_E_LIMIT, "texts of %zu tokens, the model was made for %u", r->len, r->m->s.n_ctx);
    if (!pith_mul(r->n_texts, r->len, &n)) return pith_fail(ctx, PITH_E_LIMIT, "%zu texts of %zu tokens", r->n_texts, r->len);
    PITH_TRY(llama_check_ids(ctx, r->m, r->ids, n));
    PITH_TRY(llama_ready_rope(ctx, r->m, r->len, r->m->s.n_ctx));
    n = r->len * (r->m->s.rope_dims / 2);
    float *angles = pith_op_attr(r->tape, 3 * n, sizeof *angles);
    if (!angles) return pith_tape_status(r->tape);
    for (size_t i = 0; i < n; i++) {
        angles[i] = r->m->rope_cos[i];
        angles[n + i] = r->m->rope_sin[i];
        angles[2 * n + i] = -r->m->rope_sin[i];
    }
    r->cos = angles;
    r->sin = angles + n;
    r->minus_sin = angles + 2 * n;
    return PITH_OK;
}

pith_var *pith_llama_record_hidden(pith_tape *tape, pith_llama *m, const int32_t *ids, size_t n_texts, size_t len, bool checkpoint)
{
    recording r = {.tape = tape, .m = m, .ids = ids, .n_texts = n_texts, .len = len, .checkpoint = checkpoint};
    pith_status status = start(&r);
    if (status == PITH_OK) status = llama_body(&engine, &r, m);
    return status == PITH_OK ? r.value[LLAMA_H] : pith_op_fail(tape, status, "%s", pith_error(pith_tape_ctx(tape)));
}

pith_var *pith_llama_record_logits(pith_tape *tape, pith_llama *m, pith_var *hidden)
{
    recording r = {.tape = tape, .m = m, .value = {[LLAMA_H] = hidden}};
    return hidden && llama_head(&engine, &r, m) == PITH_OK ? r.value[LLAMA_LOGITS] : NULL;
}

pith_var *pith_llama_record(pith_tape *tape, pith_llama *m, const int32_t *ids, size_t n_texts, size_t len, bool checkpoint)
{
    return pith_llama_record_logits(tape, m, pith_llama_record_hidden(tape, m, ids, n_texts, len, checkpoint));
}

/* ---- parameters ------------------------------------------------------------------------------- */

static pith_status failed(pith_ctx *ctx, pith_tape *tape, const char *name)
{
    pith_status status = pith_tape_status(tape);
    return pith_fail_at(ctx, status ? status : PITH_E_MEMORY, "%s", name);
}

static pith_status train_vector(pith_ctx *ctx, pith_tape *tape, const pith_llama_weight *w)
{
    pith_llama_vector *v = w->vector;
    pith_var *param = pith_tape_param(tape, w->name, PITH_DIMS(w->n_cols));
    if (!param) return failed(ctx, tape, w->name);
    memcpy(param->data, v->x, w->n_cols * sizeof *v->x);
    pith_free(ctx, v->x);
    *v = (pith_llama_vector){param->data, param};
    return PITH_OK;
}

static pith_status train_matrix(pith_ctx *ctx, pith_llama *m, pith_tape *tape, const pith_llama_weight *w, pith_round_fn *round, const void *user)
{
    pith_operator *old = *w->matrix, *op;
    const pith_kernels *kernels = pith_kernels_get(ctx);
    bool tied = w->matrix == &m->embedding && m->output == old;
    pith_var *param = pith_tape_param(tape, w->name, PITH_DIMS(old->n_rows, old->n_cols));
    if (!param) return failed(ctx, tape, w->name);
    for (size_t r = 0; r < old->n_rows; r++) old->kind->row(old, kernels, r, param->data + r * old->n_cols);
    PITH_TRY(pith_operator_from_param(ctx, param, round, user, &op));
    m->ram_bytes += op->kind->bytes(op) - old->kind->bytes(old);
    pith_operator_free(ctx, old);
    *w->matrix = op;
    if (tied) m->output = op;
    return PITH_OK;
}

pith_status pith_llama_train(pith_ctx *ctx, pith_llama *m, pith_tape *tape, const pith_llama_training *options)
{
    static const pith_llama_training all = {0};
    const pith_llama_training *o = options ? options : &all;
    pith_llama_weight w;
    for (size_t i = 0; pith_llama_weight_at(m, i, &w); i++) {
        bool there = w.vector ? w.vector->x && !w.vector->param : *w.matrix && !pith_operator_param(*w.matrix);
        bool twice = w.matrix == &m->output && m->output == m->embedding;
        if (!there || twice || (o->chosen && !o->chosen(o->user, w.name))) continue;
        bool round = o->round && strncmp(w.name, "blk.", 4) == 0;
        PITH_TRY(w.vector ? train_vector(ctx, tape, &w) : train_matrix(ctx, m, tape, &w, round ? o->round : NULL, o->round_user));
    }
    return PITH_OK;
}
