#include "stream/codec/circuit.h"

#include <math.h>

#include "stream/codec/circuit_lanes.h"

/* ---- making ------------------------------------------------------------------------------------ */

void pith_circuit_free(pith_circuit *c)
{
    if (!c) return;
    pith_ctx *ctx = c->ctx;
    pith_var_tree_free(ctx, &c->tree);
    pith_free(ctx, c->edge);
    pith_free(ctx, c->leaf);
    pith_free(ctx, c->first_child);
    pith_free(ctx, c->next_sibling);
    pith_free(ctx, c);
}

/* Arrays for a tree of n nodes; the tree's and the parameters are not filled. */
static pith_status circuit_alloc(pith_ctx *ctx, size_t n, size_t n_states, size_t n_values, pith_circuit **circuit)
{
    pith_circuit *c = pith_calloc(ctx, 1, sizeof *c);
    if (!c) return PITH_E_MEMORY;
    *c = (pith_circuit){.ctx = ctx, .tree.n = n, .n = n, .n_states = n_states, .n_values = n_values};
    size_t n_edge, n_leaf;
    if (!pith_mul(n, n_states * n_states, &n_edge) || !pith_mul(n, n_states * n_values, &n_leaf)) {
        pith_free(ctx, c);
        return pith_fail(ctx, PITH_E_MEMORY, "a circuit of %zu variables with %zu states is too large", n, n_states);
    }
    bool ok = (c->tree.variable = pith_array(ctx, n, sizeof *c->tree.variable)) && (c->tree.parent = pith_array(ctx, n, sizeof *c->tree.parent)) &&
              (c->edge = pith_array(ctx, n_edge, sizeof *c->edge)) && (c->leaf = pith_array(ctx, n_leaf, sizeof *c->leaf)) &&
              (c->first_child = pith_array(ctx, n, sizeof *c->first_child)) && (c->next_sibling = pith_array(ctx, n, sizeof *c->next_sibling));
    if (!ok) {
        pith_circuit_free(c);
        return PITH_E_MEMORY;
    }
    *circuit = c;
    return PITH_OK;
}

static void link_children(pith_circuit *c)
{
    memset(c->first_child, 0xff, c->n * sizeof *c->first_child);
    memset(c->next_sibling, 0xff, c->n * sizeof *c->next_sibling);
    for (size_t i = c->n; i-- > 1;) {
        uint32_t up = c->tree.parent[i];
        c->next_sibling[i] = c->first_child[up];
        c->first_child[up] = (uint32_t)i;
    }
}

static void normalize(float *row, size_t n)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++) sum += (double)row[k];
    for (size_t k = 0; k < n; k++) row[k] = (float)((double)row[k] / sum);
}

/* Steps between states are drawn at random, and of each state how likely values are: about as often as the variable has them. */
static void start(pith_circuit *c, const uint8_t *x, size_t n_items, uint64_t seed)
{
    for (size_t i = 0; i < c->n; i++) {
        pith_rng rng = {.seed = seed, .stream = i};
        float count[PITH_CIRCUIT_VALUES], *edge = pith_circuit_edge(c, i), *leaf = pith_circuit_leaf(c, i);
        for (size_t v = 0; v < c->n_values; v++) count[v] = 1.0f / (float)c->n_values;
        for (size_t k = 0; k < n_items; k++) count[x[k * c->n + c->tree.variable[i]]]++;
        for (size_t k = 0; k < c->n_states * c->n_states; k++) edge[k] = 0.1f + pith_rng_uniform(&rng);
        for (size_t z = 0; z < c->n_states; z++) {
            for (size_t v = 0; v < c->n_values; v++) leaf[z * c->n_values + v] = count[v] * (0.1f + pith_rng_uniform(&rng));
            normalize(leaf + z * c->n_values, c->n_values);
            normalize(edge + z * c->n_states, c->n_states);
        }
    }
}

static pith_status check_options(pith_ctx *ctx, const pith_circuit_options *o, const uint8_t *x, size_t n_items, size_t n)
{
    size_t n_values = o->n_values ? o->n_values : PITH_CIRCUIT_VALUES;
    if (!n_items || !n) return pith_fail(ctx, PITH_E_ARGUMENT, "a circuit of %zu variables from %zu images: there must be some of both", n, n_items);
    if (o->n_states < 1 || o->n_states > PITH_CIRCUIT_MAX_STATES || n_values < 2 || n_values > PITH_CIRCUIT_VALUES)
        return pith_fail(ctx, PITH_E_ARGUMENT, "a circuit with %zu states and %zu values: 1 to %d states, 2 to %d values", o->n_states, n_values, PITH_CIRCUIT_MAX_STATES, PITH_CIRCUIT_VALUES);
    return pith_circuit_values_fit(&(pith_circuit){.ctx = ctx, .n = n, .n_values = n_values}, x, n_items);
}

/* The tree is copied. */
static pith_status new_over(pith_ctx *ctx, const pith_var_tree *tree, const uint8_t *x, size_t n_items, const pith_circuit_options *o, pith_circuit **circuit)
{
    pith_circuit *c;
    PITH_TRY(circuit_alloc(ctx, tree->n, o->n_states, o->n_values ? o->n_values : PITH_CIRCUIT_VALUES, &c));
    memcpy(c->tree.variable, tree->variable, c->n * sizeof *tree->variable);
    memcpy(c->tree.parent, tree->parent, c->n * sizeof *tree->parent);
    link_children(c);
    start(c, x, n_items, o->seed);
    *circuit = c;
    return PITH_OK;
}

pith_status pith_circuit_new(pith_ctx *ctx, const uint8_t *x, size_t n_items, size_t n, const pith_circuit_options *o, pith_circuit **circuit)
{
    PITH_TRY(check_options(ctx, o, x, n_items, n));
    pith_var_tree tree = {0};
    float *mi = NULL;
    size_t n_pairs;
    if (!pith_mul(n, n, &n_pairs) || !(mi = pith_array(ctx, n_pairs, sizeof *mi))) return pith_fail(ctx, PITH_E_MEMORY, "a tree over %zu variables takes %zu numbers for each", n, n);
    pith_status status = pith_mutual_information(ctx, x, n_items, n, o->tree_shift, mi);
    if (status == PITH_OK) status = pith_var_tree_span(ctx, n, mi, &tree);
    if (status == PITH_OK) status = new_over(ctx, &tree, x, n_items, o, circuit);
    pith_var_tree_free(ctx, &tree);
    pith_free(ctx, mi);
    return status;
}

pith_status pith_circuit_values_fit(const pith_circuit *c, const uint8_t *x, size_t n_items)
{
    for (size_t k = 0; k < n_items * c->n && c->n_values < PITH_CIRCUIT_VALUES; k++)
        if (x[k] >= c->n_values)
            return pith_fail(c->ctx, PITH_E_ARGUMENT, "value %zu of image %zu is %d, and the circuit has values 0 to %zu", k % c->n, k / c->n, x[k], c->n_values - 1);
    return PITH_OK;
}

/* ---- lanes ------------------------------------------------------------------------------------- */

/* The same bits, as number and as whole. */
static inline int32_t bits_of(float x) { int32_t i; memcpy(&i, &x, sizeof i); return i; }
static inline float of_bits(int32_t i) { float x; memcpy(&x, &i, sizeof x); return x; }

#define SOME 16                    /* lanes that are looked at together */

static inline void fit_some(float *v, size_t n_states, size_t stride, size_t n, int32_t *exponent)
{
    float most[SOME] = {0}, factor[SOME];
    for (size_t z = 0; z < n_states; z++)
        for (size_t b = 0; b < n; b++) most[b] = v[z * stride + b] > most[b] ? v[z * stride + b] : most[b];
    bool none = false;
    for (size_t b = 0; b < n; b++) {
        int32_t e = (bits_of(most[b]) >> 23) - 127;
        bool usable = e > -127 && e < 127; /* above the smallest normal number, and not infinite */
        factor[b] = usable ? of_bits((127 - e) << 23) : 0;
        if (exponent) exponent[b] += usable ? e : -126;
        none |= !usable;
    }
    for (size_t z = 0; z < n_states; z++)
        for (size_t b = 0; b < n; b++) v[z * stride + b] *= factor[b];
    for (size_t b = 0; b < n && none; b++)
        for (size_t z = 0; z < n_states && factor[b] == 0; z++) v[z * stride + b] = 1;
}

void pith_lanes_fit(float *v, size_t n_states, size_t lanes, int32_t *exponent)
{
    size_t whole = lanes - lanes % SOME;
    for (size_t b = 0; b < whole; b += SOME) fit_some(v + b, n_states, lanes, SOME, exponent ? exponent + b : NULL);
    if (whole < lanes) fit_some(v + whole, n_states, lanes, lanes - whole, exponent ? exponent + whole : NULL);
}

void pith_lanes_leaf(const pith_circuit *c, size_t i, const uint8_t *x, const uint8_t *known, size_t lanes, float *v)
{
    const float *leaf = pith_circuit_leaf(c, i);
    for (size_t z = 0; z < c->n_states; z++, leaf += c->n_values, v += lanes) {
        for (size_t b = 0; b < lanes; b++) v[b] = leaf[x[b]];
        for (size_t b = 0; b < lanes && known; b++) if (!known[b]) v[b] = 1;
    }
}

/* ---- files ------------------------------------------------------------------------------------- */

static const char magic[8] = "PITHCIRC";
#define VERSION 1
#define HEADER 32

/* Bytes of such a file; false: more than there can be. */
static bool file_size(size_t n, size_t n_states, size_t n_values, size_t *size)
{
    size_t edges, leaves;
    return n && pith_mul(n - 1, n_states * n_states, &edges) && pith_add(edges, n_states, &edges) && pith_mul(n, n_states * n_values, &leaves) &&
           pith_add(edges, leaves, size) && pith_add(*size, 2 * n, size) && pith_mul(*size, 4, size) && pith_add(*size, HEADER + 8, size);
}

static uint8_t *put_floats(uint8_t *at, const float *x, size_t n)
{
    for (size_t k = 0; k < n; k++, at += 4) pith_put32(at, (uint32_t)bits_of(x[k]));
    return at;
}

pith_status pith_circuit_write(const pith_circuit *c, uint8_t **file, size_t *len)
{
    size_t size = 0;
    uint8_t *data = file_size(c->n, c->n_states, c->n_values, &size) ? pith_alloc(c->ctx, size) : NULL, *at = data;
    if (!data) return PITH_E_MEMORY;
    memset(at, 0, HEADER);
    memcpy(at, magic, sizeof magic);
    pith_put32(at + 8, VERSION);
    pith_put32(at + 12, (uint32_t)c->n);
    pith_put32(at + 16, (uint32_t)c->n_states);
    pith_put32(at + 20, (uint32_t)c->n_values);
    at += HEADER;
    for (size_t i = 0; i < c->n; i++, at += 4) pith_put32(at, c->tree.variable[i]);
    for (size_t i = 0; i < c->n; i++, at += 4) pith_put32(at, c->tree.parent[i]);
    for (size_t i = 0; i < c->n; i++) {
        at = put_floats(at, pith_circuit_edge(c, i), pith_circuit_rows(c, i) * c->n_states);
        at = put_floats(at, pith_circuit_leaf(c, i), c->n_states * c->n_values);
    }
    pith_put64(at, pith_hash(data, size - 8));
    *file = data, *len = size;
    return PITH_OK;
}

/* Rows of probabilities: numbers in 0..1 that sum to 1 but for rounding. */
static const uint8_t *take_rows(const uint8_t *at, size_t n_rows, size_t n, float *x, bool *ok)
{
    for (size_t r = 0; r < n_rows; r++) {
        double sum = 0;
        for (size_t k = 0; k < n; k++, at += 4, x++) {
            *x = of_bits((int32_t)pith_le32(at));
            *ok &= *x >= 0 && *x <= 1; /* not a number is neither */
            sum += (double)*x;
        }
        *ok &= fabs(sum - 1) < 1e-3;
    }
    return at;
}

static pith_status read_tree(pith_circuit *c, const uint8_t *at)
{
    bool *seen = pith_calloc(c->ctx, c->n, sizeof *seen), ok = seen != NULL;
    if (!seen) return PITH_E_MEMORY;
    for (size_t i = 0; i < c->n; i++) {
        uint32_t v = c->tree.variable[i] = pith_le32(at + 4 * i);
        c->tree.parent[i] = pith_le32(at + 4 * (c->n + i));
        ok = ok && v < c->n && !seen[v];
        if (ok) seen[v] = true;
    }
    pith_free(c->ctx, seen);
    if (ok && pith_var_tree_valid(&c->tree)) return PITH_OK;
    return pith_fail(c->ctx, PITH_E_CORRUPT, "the circuit's tree is damaged; get the file again");
}

pith_status pith_circuit_read(pith_ctx *ctx, const uint8_t *file, size_t len, pith_circuit **circuit)
{
    if (len < HEADER + 8 || memcmp(file, magic, sizeof magic)) return pith_fail(ctx, PITH_E_CORRUPT, "this is no circuit: it does not begin with %.8s", magic);
    if (pith_le32(file + 8) != VERSION)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "the circuit is of version %u, and this pith reads version %d: a newer one is needed", pith_le32(file + 8), VERSION);
    size_t n = pith_le32(file + 12), n_states = pith_le32(file + 16), n_values = pith_le32(file + 20), size;
    bool possible = n_states >= 1 && n_states <= PITH_CIRCUIT_MAX_STATES && n_values >= 2 && n_values <= PITH_CIRCUIT_VALUES;
    if (!possible || !file_size(n, n_states, n_values, &size) || size != len)
        return pith_fail(ctx, PITH_E_CORRUPT, "a circuit of %zu variables with %zu states and %zu values cannot have %zu bytes: the file is cut or damaged; get it again", n, n_states, n_values, len);
    if (pith_le64(file + len - 8) != pith_hash(file, len - 8)) return pith_fail(ctx, PITH_E_CORRUPT, "the circuit's checksum is not that of its %zu bytes; get the file again", len);
    pith_circuit *c;
    PITH_TRY(circuit_alloc(ctx, n, n_states, n_values, &c));
    pith_status status = read_tree(c, file + HEADER);
    const uint8_t *at = file + HEADER + 8 * n;
    bool ok = true;
    for (size_t i = 0; i < n && status == PITH_OK; i++) {
        memset(pith_circuit_edge(c, i), 0, n_states * n_states * sizeof *c->edge);
        at = take_rows(at, pith_circuit_rows(c, i), n_states, pith_circuit_edge(c, i), &ok);
        at = take_rows(at, n_states, n_values, pith_circuit_leaf(c, i), &ok);
    }
    if (status == PITH_OK && !ok) status = pith_fail(ctx, PITH_E_CORRUPT, "the circuit has numbers that are no probabilities; get the file again");
    if (status != PITH_OK) {
        pith_circuit_free(c);
        return status;
    }
    link_children(c);
    *circuit = c;
    return PITH_OK;
}
