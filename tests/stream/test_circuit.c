/* Probabilistic circuits against what can be said by brute force: the tree, likelihoods, conditionals, EM; then files. */
#include <math.h>

#include "data/data.h"
#include "stream/codec/circuit.h"
#include "tests/test.h"

/* ---- trees ------------------------------------------------------------------------------------- */

/* Weight of the labelled tree that a sequence of n - 2 numbers stands for (H. Pruefer, 1918). */
static double tree_weight(const float *weight, size_t n, const size_t *code)
{
    size_t degree[8] = {0};
    double sum = 0;
    for (size_t v = 0; v < n; v++) degree[v] = 1;
    for (size_t i = 0; i + 2 < n; i++) degree[code[i]]++;
    for (size_t i = 0; i + 2 < n; i++) {
        size_t leaf = 0;
        while (degree[leaf] != 1) leaf++;
        sum += (double)weight[leaf * n + code[i]];
        degree[leaf]--, degree[code[i]]--;
    }
    size_t a = 0, b;
    while (degree[a] != 1) a++;
    for (b = a + 1; degree[b] != 1; b++) continue;
    return sum + (double)weight[a * n + b];
}

static void test_tree(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { TREE_N = 6, CODES = 6 * 6 * 6 * 6 };
    for (uint64_t seed = 0; seed < 20; seed++) {
        pith_rng rng = {.seed = seed};
        float weight[TREE_N * TREE_N] = {0};
        for (size_t a = 0; a < TREE_N; a++)
            for (size_t b = 0; b < a; b++) weight[a * TREE_N + b] = weight[b * TREE_N + a] = seed % 2 ? pith_rng_uniform(&rng) : (float)pith_rng_below(&rng, 3);
        double best = -1, got = 0;
        for (size_t c = 0; c < CODES; c++) {
            size_t code[] = {c % 6, c / 6 % 6, c / 36 % 6, c / 216};
            best = fmax(best, tree_weight(weight, TREE_N, code));
        }
        pith_var_tree tree = {0};
        assert_ok(ctx, pith_var_tree_span(ctx, TREE_N, weight, &tree));
        assert_true(pith_var_tree_valid(&tree));
        for (size_t i = 1; i < TREE_N; i++) got += (double)weight[tree.variable[i] * TREE_N + tree.variable[tree.parent[i]]];
        assert_float_equal(got, best, 1e-5);
        pith_var_tree_free(ctx, &tree);
    }
    pith_ctx_free(ctx);
}

/* A chain is rooted in its middle. */
static void test_root(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { CHAIN = 9 };
    float weight[CHAIN * CHAIN] = {0};
    for (size_t v = 0; v + 1 < CHAIN; v++) weight[v * CHAIN + v + 1] = weight[(v + 1) * CHAIN + v] = 1;
    pith_var_tree tree = {0};
    assert_ok(ctx, pith_var_tree_span(ctx, CHAIN, weight, &tree));
    assert_int_equal(tree.variable[0], CHAIN / 2);
    tree.parent[CHAIN - 1] = 1; /* not the node before or above it */
    assert_false(pith_var_tree_valid(&tree));
    pith_var_tree_free(ctx, &tree);
    assert_int_equal(pith_var_tree_span(ctx, 0, weight, &tree), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

static void test_mutual_information(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    enum { VARS = 4, ITEMS = 500, BINS = 64 };
    uint8_t x[ITEMS * VARS];
    float mi[VARS * VARS];
    pith_rng rng = {.seed = 5};
    for (size_t k = 0; k < ITEMS; k++) {
        x[k * VARS] = (uint8_t)pith_rng_below(&rng, 256);
        x[k * VARS + 1] = (uint8_t)(x[k * VARS] ^ pith_rng_below(&rng, 8));
        x[k * VARS + 2] = 0;
        x[k * VARS + 3] = (uint8_t)pith_rng_below(&rng, 256);
    }
    assert_ok(ctx, pith_mutual_information(ctx, x, ITEMS, VARS, 2, mi));
    for (size_t a = 0; a < VARS; a++)
        for (size_t b = 0; b < VARS; b++) {
            static double joint[BINS][BINS], pa[BINS], pb[BINS];
            double sum = 0;
            memset(joint, 0, sizeof joint), memset(pa, 0, sizeof pa), memset(pb, 0, sizeof pb);
            for (size_t k = 0; k < ITEMS; k++) {
                size_t u = x[k * VARS + a] >> 2, v = x[k * VARS + b] >> 2;
                joint[u][v] += 1.0 / ITEMS, pa[u] += 1.0 / ITEMS, pb[v] += 1.0 / ITEMS;
            }
            for (size_t u = 0; u < BINS; u++)
                for (size_t v = 0; v < BINS; v++) if (joint[u][v] > 0) sum += joint[u][v] * log(joint[u][v] / (pa[u] * pb[v]));
            assert_float_equal(mi[a * VARS + b], a == b ? 0 : sum, 1e-5);
        }
    assert_int_equal(pith_mutual_information(ctx, x, 0, VARS, 2, mi), PITH_E_ARGUMENT);
    assert_int_equal(pith_mutual_information(ctx, x, ITEMS, VARS, 8, mi), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

/* ---- small circuits ---------------------------------------------------------------------------- */

#define WAYS 3                     /* of drawn images */

/* Images of which each value follows another one, with noise. */
static void draw(uint8_t *x, size_t n_items, size_t n, size_t n_values, uint64_t seed)
{
    pith_rng rng = {.seed = seed};
    for (size_t k = 0; k < n_items; k++) {
        uint32_t way = pith_rng_below(&rng, WAYS);
        for (size_t i = 0; i < n; i++) {
            size_t near = i ? x[k * n + pith_rng_below(&rng, (uint32_t)i)] : way;
            x[k * n + i] = (uint8_t)(pith_rng_below(&rng, 4) ? (near + way) % n_values : pith_rng_below(&rng, (uint32_t)n_values));
        }
    }
}

static pith_circuit *learned(pith_ctx *ctx, const uint8_t *x, size_t n_items, size_t n, size_t n_states, size_t n_values)
{
    pith_circuit *c;
    pith_circuit_training t = {.batch = 16, .epochs = {2, 1}, .momentum = {0.2, 0.9, 0.95}, .rounds = 1, .pseudocount = 0.1, .seed = 2};
    assert_ok(ctx, pith_circuit_new(ctx, x, n_items, n, &(pith_circuit_options){.n_states = n_states, .n_values = n_values, .seed = 1}, &c));
    assert_ok(ctx, pith_circuit_learn(c, x, n_items, &t));
    return c;
}

static void test_sums_to_one(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { VARS = 5, VALUES = 3, ALL = 3 * 3 * 3 * 3 * 3 };
    uint8_t x[60 * VARS], all[ALL * VARS];
    double log2_p[ALL], sum = 0;
    draw(x, 60, VARS, VALUES, 1);
    for (size_t k = 0; k < ALL; k++)
        for (size_t i = 0, rest = k; i < VARS; i++, rest /= VALUES) all[k * VARS + i] = (uint8_t)(rest % VALUES);
    for (size_t n_states = 1; n_states <= 17; n_states += 4) {
        pith_circuit *c = learned(ctx, x, 60, VARS, n_states, VALUES);
        assert_ok(ctx, pith_circuit_log2(c, all, NULL, ALL, log2_p));
        sum = 0;
        for (size_t k = 0; k < ALL; k++) sum += exp2(log2_p[k]);
        assert_float_equal(sum, 1, 1e-5);
        pith_circuit_free(c);
    }
    pith_ctx_free(ctx);
}

/* p(x) by going through all states of all nodes. */
static double brute_force(const pith_circuit *c, const uint8_t *x)
{
    size_t n_ways = 1;
    double sum = 0;
    for (size_t i = 0; i < c->n; i++) n_ways *= c->n_states;
    for (size_t way = 0; way < n_ways; way++) {
        size_t z[8];
        double p = 1;
        for (size_t i = 0, rest = way; i < c->n; i++, rest /= c->n_states) z[i] = rest % c->n_states;
        for (size_t i = 0; i < c->n; i++) {
            size_t from = i ? z[c->tree.parent[i]] : 0;
            p *= (double)c->edge[(i * c->n_states + from) * c->n_states + z[i]] * (double)c->leaf[(i * c->n_states + z[i]) * c->n_values + x[c->tree.variable[i]]];
        }
        sum += p;
    }
    return sum;
}

static void test_likelihood(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { VARS = 6, VALUES = 5, ITEMS = 40 };
    uint8_t x[ITEMS * VARS];
    double log2_p[ITEMS];
    draw(x, ITEMS, VARS, VALUES, 2);
    pith_circuit *c = learned(ctx, x, ITEMS, VARS, 3, VALUES);
    assert_ok(ctx, pith_circuit_log2(c, x, NULL, ITEMS, log2_p));
    for (size_t k = 0; k < ITEMS; k++) assert_float_equal(log2_p[k], log2(brute_force(c, x + k * VARS)), 1e-4);
    pith_circuit_free(c);
    pith_ctx_free(ctx);
}

/* Frequencies are ratios of likelihoods of what is known with and without the value, each by a whole pass. */
static void test_conditionals(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { VARS = 14, VALUES = 6, ITEMS = 50 };
    uint8_t x[ITEMS * VARS], image[(VALUES + 1) * VARS], known[(VALUES + 1) * VARS] = {0};
    uint32_t freq[VARS * VALUES];
    double log2_p[VALUES + 1];
    draw(x, ITEMS, VARS, VALUES, 3);
    pith_circuit *c = learned(ctx, x, ITEMS, VARS, 4, VALUES);
    for (size_t k = 0; k < 5; k++) {
        memset(known, 0, sizeof known);
        for (size_t v = 0; v <= VALUES; v++) memcpy(image + v * VARS, x + k * VARS, VARS);
        assert_ok(ctx, pith_circuit_tables(c, x + k * VARS, freq));
        for (size_t i = 0; i < VARS; i++) {
            size_t at = c->tree.variable[i];
            for (size_t v = 0; v < VALUES; v++) image[v * VARS + at] = (uint8_t)v, known[v * VARS + at] = 1;
            assert_ok(ctx, pith_circuit_log2(c, image, known, VALUES + 1, log2_p)); /* the last: without the value */
            for (size_t v = 0; v < VALUES; v++)
                assert_float_equal((double)freq[i * VALUES + v] / (1 << PITH_CIRCUIT_BITS), exp2(log2_p[v] - log2_p[VALUES]), 2e-5);
            for (size_t v = 0; v <= VALUES; v++) image[v * VARS + at] = x[k * VARS + at], known[v * VARS + at] = 1;
        }
    }
    pith_circuit_free(c);
    pith_ctx_free(ctx);
}

typedef struct course {
    double bits[64];
    size_t n;
} course;
static pith_status passed(void *user, size_t epoch, double bits)
{
    course *o = user;
    assert_int_equal(epoch, o->n);
    o->bits[o->n++] = bits;
    return PITH_OK;
}

/* Rounds over all images are plain EM: no round is worse than the one before, and the first ones are much better. */
static void test_em_rises(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    enum { VARS = 20, VALUES = 8, ITEMS = 150 };
    uint8_t x[ITEMS * VARS];
    draw(x, ITEMS, VARS, VALUES, 4);
    for (size_t n_states = 2; n_states <= 16; n_states += 7) {
        pith_circuit *c;
        course o = {.n = 0};
        pith_circuit_training t = {.batch = 40, .rounds = 40, .passed = passed, .user = &o}; /* the last batch of a round is short */
        assert_ok(ctx, pith_circuit_new(ctx, x, ITEMS, VARS, &(pith_circuit_options){.n_states = n_states, .n_values = VALUES, .seed = 1}, &c));
        assert_ok(ctx, pith_circuit_learn(c, x, ITEMS, &t));
        assert_int_equal(o.n, 40);
        for (size_t i = 1; i < o.n; i++) assert_true(o.bits[i] <= o.bits[i - 1] + 1e-6);
        assert_true(o.bits[39] < o.bits[0] - 0.1);
        pith_circuit_free(c);
    }
    pith_ctx_free(ctx);
}

/* ---- files ------------------------------------------------------------------------------------- */

/* Digits where they are, else made images: grey [n, 784 or less], the first channel. */
static uint8_t *real_images(pith_ctx *ctx, size_t want, size_t *n_items, size_t *n)
{
    pith_dataset *ds = NULL;
    pith_dataset_options o = {.n = want};
    if (pith_dataset_open(ctx, "mnist", "train", &o, &ds) != PITH_OK) assert_ok(ctx, pith_dataset_open(ctx, "scenes32", "train", &o, &ds));
    const pith_field *f = pith_dataset_field(ds, "image");
    *n = f->dims[1] * f->dims[2];
    *n_items = PITH_MIN(want, ds->n);
    uint8_t *x = malloc(*n_items * *n);
    for (size_t k = 0; k < *n_items; k++) memcpy(x + k * *n, pith_field_item(f, k), *n);
    pith_dataset_free(ds);
    return x;
}

static void test_images(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    size_t n_items, n, len, n_back;
    uint8_t *x = real_images(ctx, 90, &n_items, &n), *file, *back;
    double log2_p[90], ideal = 0;
    pith_circuit *c;
    pith_circuit_training t = {.batch = 64, .epochs = {1, 0}, .momentum = {0.2, 0.9, 0.95}, .rounds = 1, .pseudocount = 0.1};
    assert_ok(ctx, pith_circuit_new(ctx, x, n_items, n, &(pith_circuit_options){.n_states = 16, .tree_shift = 4, .seed = 1}, &c));
    assert_ok(ctx, pith_circuit_learn(c, x, n_items, &t));
    assert_ok(ctx, pith_circuit_log2(c, x, NULL, n_items, log2_p));
    for (size_t k = 0; k < n_items; k++) ideal -= log2_p[k];
    assert_ok(ctx, pith_circuit_encode(c, x, n_items, &file, &len));
    assert_true((double)len <= 1.01 * ideal / 8 + 4);
    assert_true((double)len >= ideal / 8);
    assert_ok(ctx, pith_circuit_decode(c, file, len, &back, &n_back));
    assert_int_equal(n_back, n_items);
    assert_memory_equal(back, x, n_items * n);
    pith_circuit_work work;
    assert_ok(ctx, pith_circuit_count(c, &work));
    assert_true((double)(work.kept + work.last) <= 0.12 * (double)(work.again + work.last));
    pith_free(ctx, back);
    pith_free(ctx, file);
    pith_circuit_free(c);
    free(x);
    pith_ctx_free(ctx);
}

/* The circuit that is learned and the file that it writes, as one hash; 0: this processor has no such instructions. */
static uint64_t hash_of(const char *isa, int n_threads)
{
    enum { VARS = 40, ITEMS = 75 };
    static uint8_t x[ITEMS * VARS];
    pith_options o = {.n_threads = n_threads, .log_level = PITH_LOG_ERROR};
    pith_ctx *ctx = NULL;
    uint8_t *circuit, *file, *back;
    size_t circuit_len, len, n_back;
    setenv("PITH_CPU", isa, 1);
    pith_status status = pith_ctx_new(&o, &ctx);
    unsetenv("PITH_CPU");
    if (status != PITH_OK) {
        pith_ctx_free(ctx);
        return 0;
    }
    draw(x, ITEMS, VARS, 256, 6);
    pith_circuit *c = learned(ctx, x, ITEMS, VARS, 16, 256);
    assert_ok(ctx, pith_circuit_write(c, &circuit, &circuit_len));
    assert_ok(ctx, pith_circuit_encode(c, x, ITEMS, &file, &len));
    uint64_t hash = pith_hash(circuit, circuit_len) ^ pith_hash(file, len);
    assert_ok(ctx, pith_circuit_decode(c, file, len, &back, &n_back));
    assert_memory_equal(back, x, sizeof x);
    pith_free(ctx, back);
    pith_free(ctx, file);
    pith_free(ctx, circuit);
    pith_circuit_free(c);
    pith_ctx_free(ctx);
    return hash;
}

static void test_same_bytes(void **state)
{
    (void)state;
    static const char *const isas[] = {"scalar", "avx2", "avx512", "neon"};
    uint64_t first = hash_of("scalar", 1);
    assert_true(first != 0);
    for (size_t i = 0; i < PITH_COUNT(isas); i++)
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            uint64_t hash = hash_of(isas[i], n_threads);
            if (hash) assert_true(hash == first);
        }
}

/* ---- damage ------------------------------------------------------------------------------------ */

enum { D_VARS = 7, D_VALUES = 4, D_ITEMS = 70 };

static void test_damaged_images(void **state)
{
    (void)state;
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_ERROR};
    pith_ctx *ctx = NULL;
    uint8_t x[D_ITEMS * D_VARS], *file, *back;
    size_t len, n_back, n_spared = 0;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    draw(x, D_ITEMS, D_VARS, D_VALUES, 7);
    pith_circuit *c = learned(ctx, x, D_ITEMS, D_VARS, 2, D_VALUES), *other = learned(ctx, x, D_ITEMS / 2, D_VARS, 2, D_VALUES);
    assert_ok(ctx, pith_circuit_encode(c, x, D_ITEMS, &file, &len));
    for (size_t i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit++) {
            file[i] ^= (uint8_t)(1 << bit);
            pith_status status = pith_circuit_decode(c, file, len, &back, &n_back);
            file[i] ^= (uint8_t)(1 << bit);
            if (status == PITH_OK) { /* another number in a stream's last interval */
                assert_int_equal(n_back, D_ITEMS);
                assert_memory_equal(back, x, sizeof x);
                pith_free(ctx, back);
                n_spared++;
            } else assert_int_equal(status, PITH_E_CORRUPT);
        }
    assert_true(n_spared <= 3 * 8); /* bits of the last bytes of three streams */
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1);
        memcpy(exact, file, cut);
        assert_int_equal(pith_circuit_decode(c, exact, cut, &back, &n_back), PITH_E_CORRUPT);
        free(exact);
    }
    assert_int_equal(pith_circuit_decode(other, file, len, &back, &n_back), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "another circuit"));
    x[3] = D_VALUES;
    assert_int_equal(pith_circuit_encode(c, x, D_ITEMS, &back, &n_back), PITH_E_ARGUMENT);
    pith_free(ctx, file);
    pith_circuit_free(other);
    pith_circuit_free(c);
    pith_ctx_free(ctx);
}

static void test_circuit_files(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint8_t x[D_ITEMS * D_VARS], *file, *again, *images, *back;
    size_t len, again_len, images_len, n_back;
    pith_circuit *copy;
    draw(x, D_ITEMS, D_VARS, D_VALUES, 8);
    pith_circuit *c = learned(ctx, x, D_ITEMS, D_VARS, 3, D_VALUES);
    assert_ok(ctx, pith_circuit_write(c, &file, &len));
    assert_ok(ctx, pith_circuit_read(ctx, file, len, &copy));
    assert_ok(ctx, pith_circuit_write(copy, &again, &again_len));
    assert_int_equal(again_len, len);
    assert_memory_equal(again, file, len);
    assert_ok(ctx, pith_circuit_encode(c, x, D_ITEMS, &images, &images_len));
    assert_ok(ctx, pith_circuit_decode(copy, images, images_len, &back, &n_back));
    assert_memory_equal(back, x, sizeof x);
    pith_circuit_free(copy);
    for (size_t i = 0; i < len; i++) { /* with a right checksum too: a tree or probabilities that cannot be, or a circuit that works */
        uint8_t old = file[i];
        file[i] ^= (uint8_t)(1 << i % 8);
        pith_status status = pith_circuit_read(ctx, file, len, &copy);
        assert_true(status == PITH_E_CORRUPT || (status == PITH_E_UNSUPPORTED && i >= 8 && i < 12));
        if (i < len - 8) {
            uint64_t sum = pith_le64(file + len - 8);
            pith_put64(file + len - 8, pith_hash(file, len - 8));
            if (pith_circuit_read(ctx, file, len, &copy) == PITH_OK) {
                uint32_t freq[D_VARS * D_VALUES];
                assert_ok(ctx, pith_circuit_tables(copy, x, freq));
                pith_circuit_free(copy);
            }
            pith_put64(file + len - 8, sum);
        }
        file[i] = old;
    }
    for (size_t cut = 0; cut < len; cut++) assert_int_equal(pith_circuit_read(ctx, file, cut, &copy), PITH_E_CORRUPT);
    pith_free(ctx, back);
    pith_free(ctx, images);
    pith_free(ctx, again);
    pith_free(ctx, file);
    pith_circuit_free(c);
    pith_ctx_free(ctx);
}

/* ---- arguments and memory ---------------------------------------------------------------------- */

static void test_arguments(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint8_t x[D_ITEMS * D_VARS];
    pith_circuit *c;
    draw(x, D_ITEMS, D_VARS, D_VALUES, 9);
    const pith_circuit_options wrong[] = {{.n_states = 0}, {.n_states = 257}, {.n_states = 2, .n_values = 1}, {.n_states = 2, .n_values = 257}, {.n_states = 2, .n_values = D_VALUES - 1}, {.n_states = 2, .tree_shift = 9}};
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) assert_int_equal(pith_circuit_new(ctx, x, D_ITEMS, D_VARS, &wrong[i], &c), PITH_E_ARGUMENT);
    assert_int_equal(pith_circuit_new(ctx, x, 0, D_VARS, &(pith_circuit_options){.n_states = 2}, &c), PITH_E_ARGUMENT);
    c = learned(ctx, x, D_ITEMS, D_VARS, 2, D_VALUES);
    const pith_circuit_training bad[] = {{.batch = 0, .rounds = 1}, {.batch = 4, .rounds = 1, .momentum = {1}}, {.batch = 4, .rounds = 1, .pseudocount = -1}};
    for (size_t i = 0; i < PITH_COUNT(bad); i++) assert_int_equal(pith_circuit_learn(c, x, D_ITEMS, &bad[i]), PITH_E_ARGUMENT);
    pith_circuit_free(c);
    pith_ctx_free(ctx);
}

static pith_status all_of_it(pith_ctx *ctx, const void *user)
{
    const uint8_t *x = user;
    pith_circuit *c = NULL, *copy = NULL;
    uint8_t *circuit = NULL, *file = NULL, *back = NULL;
    size_t circuit_len, len, n_back;
    pith_circuit_training t = {.batch = 16, .epochs = {1, 0}, .rounds = 1, .pseudocount = 0.1};
    pith_status status = pith_circuit_new(ctx, x, D_ITEMS, D_VARS, &(pith_circuit_options){.n_states = 2, .n_values = D_VALUES}, &c);
    if (status == PITH_OK) status = pith_circuit_learn(c, x, D_ITEMS, &t);
    if (status == PITH_OK) status = pith_circuit_write(c, &circuit, &circuit_len);
    if (status == PITH_OK) status = pith_circuit_read(ctx, circuit, circuit_len, &copy);
    if (status == PITH_OK) status = pith_circuit_encode(copy, x, D_ITEMS, &file, &len);
    if (status == PITH_OK) status = pith_circuit_decode(copy, file, len, &back, &n_back);
    pith_free(ctx, back);
    pith_free(ctx, file);
    pith_free(ctx, circuit);
    pith_circuit_free(copy);
    pith_circuit_free(c);
    return status;
}

static void test_allocation_failures(void **state)
{
    (void)state;
    uint8_t x[D_ITEMS * D_VARS];
    draw(x, D_ITEMS, D_VARS, D_VALUES, 10);
    assert_true(test_every_fault(all_of_it, x) >= 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree), cmocka_unit_test(test_root), cmocka_unit_test(test_mutual_information), cmocka_unit_test(test_sums_to_one),
        cmocka_unit_test(test_likelihood), cmocka_unit_test(test_conditionals), cmocka_unit_test(test_em_rises), cmocka_unit_test(test_images),
        cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_damaged_images), cmocka_unit_test(test_circuit_files), cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
