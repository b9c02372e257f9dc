/* Coding by a circuit: its conditionals in the order of nodes, and files of images. */
#include "stage/code/range.h"
#include "stream/codec/circuit_lanes.h"

/* ---- conditionals ------------------------------------------------------------------------------ */

/* A walk over the nodes with some images side by side.  Open nodes are the way from the root to the last one. */
typedef struct walk {
    const pith_circuit *c;
    const pith_kernels *kernels;
    size_t lanes, n_open;
    uint32_t *open;                /* [depth] */
    float *outer;                  /* [depth, n_states, lanes] what all coded values but those of its own subtree say of a state */
    float *inner;                  /* [depth, n_states, lanes] what coded values of its own subtree say, children that are done */
    float *product, *turned, *edge_turned; /* scratch: [n_states, lanes], [lanes, n_states], [n_states, n_states] */
    float *weight;                 /* [lanes, n_values] not normalized */
    uint64_t n_products;           /* multiply-adds of steps up and down, for each lane */
} walk;

/* The most nodes that are open at once. */
static size_t depth_of(const pith_circuit *c)
{
    size_t most = 0, depth = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        for (uint32_t up = i - 1; i && up != c->tree.parent[i]; up = c->tree.parent[up]) depth--;
        most = PITH_MAX(most, ++depth);
    }
    return most;
}

static void walk_free(pith_ctx *ctx, walk *w)
{
    pith_free(ctx, w->open);
    pith_free(ctx, w->outer);
    pith_free(ctx, w->inner);
    pith_free(ctx, w->product);
    pith_free(ctx, w->turned);
    pith_free(ctx, w->edge_turned);
    pith_free(ctx, w->weight);
}

/* Free it also after an error. */
static pith_status walk_new(const pith_circuit *c, size_t depth, size_t lanes, walk *w)
{
    size_t k = c->n_states;
    *w = (walk){.c = c, .kernels = pith_kernels_get(c->ctx), .lanes = lanes};
    bool ok = (w->open = pith_array(c->ctx, depth, sizeof *w->open)) && (w->outer = pith_array(c->ctx, depth, k * lanes * sizeof *w->outer)) &&
              (w->inner = pith_array(c->ctx, depth, k * lanes * sizeof *w->inner)) && (w->product = pith_array(c->ctx, k, lanes * sizeof *w->product)) &&
              (w->turned = pith_array(c->ctx, k, lanes * sizeof *w->turned)) && (w->edge_turned = pith_array(c->ctx, k, k * sizeof *w->edge_turned)) &&
              (w->weight = pith_array(c->ctx, lanes, c->n_values * sizeof *w->weight));
    return ok ? PITH_OK : PITH_E_MEMORY;
}

/* The last open node and all below it are coded: one step up. */
static void leave(walk *w)
{
    size_t k = w->c->n_states, size = k * w->lanes;
    uint32_t i = w->open[--w->n_open];
    float *above = w->inner + (w->n_open - 1) * size;
    w->kernels->gemm(k, w->lanes, k, pith_circuit_edge(w->c, i), k, w->inner + w->n_open * size, w->lanes, w->product, w->lanes, false);
    w->n_products += k * k;
    pith_lanes_multiply(above, w->product, size);
    pith_lanes_fit(above, k, w->lanes, NULL);
}

/* Open node i, the one after the last: one step down; weight has how likely its values are, in each image by another factor.
 * A weight is at most 2 n_states, and their sum about 1 or more: one state of `outer` has 1 or more, and a leaf's row sums to 1. */
static void enter(walk *w, size_t i)
{
    const pith_circuit *c = w->c;
    size_t k = c->n_states, lanes = w->lanes, size = k * lanes, rows = pith_circuit_rows(c, i);
    while (w->n_open && w->open[w->n_open - 1] != c->tree.parent[i]) leave(w);
    float *outer = w->outer + w->n_open * size;
    for (size_t e = 0; e < rows * lanes; e++) w->product[e] = 1;
    if (w->n_open) {
        memcpy(w->product, outer - size, size * sizeof *outer);
        pith_lanes_multiply(w->product, w->inner + (w->n_open - 1) * size, size);
    }
    pith_transpose(pith_circuit_edge(c, i), rows, k, k, w->edge_turned, rows);
    w->kernels->gemm(k, lanes, rows, w->edge_turned, rows, w->product, lanes, outer, lanes, false);
    w->n_products += rows * k;
    pith_lanes_fit(outer, k, lanes, NULL);
    pith_transpose(outer, k, lanes, lanes, w->turned, k);
    w->kernels->gemm(lanes, c->n_values, k, w->turned, k, pith_circuit_leaf(c, i), c->n_values, w->weight, c->n_values, false);
    w->open[w->n_open++] = (uint32_t)i;
}

/* Its values are value [lanes]. */
static void settle(walk *w, const uint8_t *value)
{
    pith_lanes_leaf(w->c, w->open[w->n_open - 1], value, NULL, w->lanes, w->inner + (w->n_open - 1) * w->c->n_states * w->lanes);
}

/* ---- tables ------------------------------------------------------------------------------------- */

pith_status pith_circuit_tables(const pith_circuit *c, const uint8_t *x, uint32_t *freq)
{
    PITH_TRY(pith_circuit_values_fit(c, x, 1));
    walk w;
    pith_status status = walk_new(c, depth_of(c), 1, &w);
    for (size_t i = 0; i < c->n && status == PITH_OK; i++) {
        int32_t count[PITH_CIRCUIT_VALUES];
        enter(&w, i);
        pith_range_frequencies(w.weight, c->n_values, PITH_CIRCUIT_BITS, count);
        for (size_t v = 0; v < c->n_values; v++) freq[i * c->n_values + v] = (uint32_t)count[v];
        settle(&w, x + c->tree.variable[i]);
    }
    walk_free(c->ctx, &w);
    return status;
}

pith_status pith_circuit_count(const pith_circuit *c, pith_circuit_work *work)
{
    walk w;
    pith_status status = walk_new(c, depth_of(c), 1, &w);
    uint64_t one_pass = 0;
    for (size_t i = 0; i < c->n && status == PITH_OK; i++) {
        enter(&w, i);
        settle(&w, &(uint8_t){0});
        one_pass += pith_circuit_rows(c, i) * c->n_states;
    }
    *work = (pith_circuit_work){.kept = w.n_products, .again = one_pass * c->n, .last = c->n * c->n_states * c->n_values};
    walk_free(c->ctx, &w);
    return status;
}

/* ---- files ------------------------------------------------------------------------------------- */

static const char magic[8] = "PITHCIMG";
#define VERSION 1
#define HEADER 48
#define BLOCK PITH_CIRCUIT_BLOCK
#define WAVE 64                    /* blocks at work before what they made is put away */

static pith_status circuit_id(const pith_circuit *c, uint64_t *id)
{
    uint8_t *file;
    size_t len;
    PITH_TRY(pith_circuit_write(c, &file, &len));
    *id = pith_le64(file + len - 8);
    pith_free(c->ctx, file);
    return PITH_OK;
}

/* Blocks of images, and the streams they are to be or have been. */
typedef struct job {
    const pith_circuit *c;
    walk *walk;                    /* [workers] */
    size_t n_items, first;         /* of the file; the first block of the wave */
    const uint8_t *x;              /* writing: [n_items, n] */
    uint8_t *y;                    /* reading: [n_items, n] */
    uint8_t *stream;               /* writing: [WAVE, cap] */
    size_t cap, len[WAVE];
    const uint8_t *src[WAVE];      /* reading: len[..] bytes each */
    pith_status result[WAVE];
} job;

static size_t block_items(const job *j, size_t block) { return PITH_MIN((size_t)BLOCK, j->n_items - block * BLOCK); }

static void write_block(void *arg, size_t index, int worker)
{
    job *j = arg;
    const pith_circuit *c = j->c;
    walk *w = &j->walk[worker];
    size_t block = j->first + index, n = block_items(j, block);
    const uint8_t *x = j->x + block * BLOCK * c->n;
    pith_range_writer out;
    pith_range_write_begin(&out, j->stream + index * j->cap, j->cap);
    w->n_open = 0;
    for (size_t i = 0; i < c->n; i++) {
        uint8_t value[BLOCK] = {0};
        enter(w, i);
        for (size_t b = 0; b < n; b++) {
            int32_t freq[PITH_CIRCUIT_VALUES];
            value[b] = x[b * c->n + c->tree.variable[i]];
            pith_range_frequencies(w->weight + b * c->n_values, c->n_values, PITH_CIRCUIT_BITS, freq);
            pith_range_write(&out, pith_range_start(freq, value[b]), (uint32_t)freq[value[b]], PITH_CIRCUIT_BITS);
        }
        settle(w, value);
    }
    j->result[index] = pith_range_write_end(&out, &j->len[index]);
}

static void read_block(void *arg, size_t index, int worker)
{
    job *j = arg;
    const pith_circuit *c = j->c;
    walk *w = &j->walk[worker];
    size_t block = j->first + index, n = block_items(j, block);
    uint8_t *y = j->y + block * BLOCK * c->n;
    pith_range_reader in;
    pith_range_read_begin(&in, j->src[index], j->len[index]);
    w->n_open = 0;
    for (size_t i = 0; i < c->n; i++) {
        uint8_t value[BLOCK] = {0};
        enter(w, i);
        for (size_t b = 0; b < n; b++) {
            int32_t freq[PITH_CIRCUIT_VALUES];
            uint32_t start;
            pith_range_frequencies(w->weight + b * c->n_values, c->n_values, PITH_CIRCUIT_BITS, freq);
            value[b] = (uint8_t)pith_range_find(freq, pith_range_read(&in, PITH_CIRCUIT_BITS), &start);
            pith_range_read_done(&in, start, (uint32_t)freq[value[b]], PITH_CIRCUIT_BITS);
            y[b * c->n + c->tree.variable[i]] = value[b];
        }
        settle(w, value);
    }
    j->result[index] = pith_range_read_end(&in);
}

static void job_end(job *j)
{
    for (int i = 0; j->walk && i < pith_n_threads(j->c->ctx); i++) walk_free(j->c->ctx, &j->walk[i]);
    pith_free(j->c->ctx, j->walk);
    pith_free(j->c->ctx, j->stream);
}

/* End it also after an error. */
static pith_status job_begin(job *j)
{
    size_t depth = depth_of(j->c);
    if (!(j->walk = pith_calloc(j->c->ctx, (size_t)pith_n_threads(j->c->ctx), sizeof *j->walk))) return PITH_E_MEMORY;
    for (int i = 0; i < pith_n_threads(j->c->ctx); i++) PITH_TRY(walk_new(j->c, depth, BLOCK, &j->walk[i]));
    if (j->y) return PITH_OK;
    j->cap = pith_range_bound(j->c->n * BLOCK, PITH_CIRCUIT_BITS);
    return (j->stream = pith_array(j->c->ctx, WAVE, j->cap)) ? PITH_OK : PITH_E_MEMORY;
}

static size_t n_blocks_of(size_t n_items) { return n_items / BLOCK + (n_items % BLOCK != 0); }

/* A file that grows; *file stays the caller's. */
static pith_status append(pith_ctx *ctx, uint8_t **file, size_t *len, size_t *cap, const uint8_t *stream, size_t n)
{
    if (n + 4 > *cap - *len) {
        size_t grown = 2 * (*len + n + 4);
        uint8_t *data = pith_resize(ctx, *file, grown);
        if (!data) return PITH_E_MEMORY;
        *file = data, *cap = grown;
    }
    pith_put32(*file + *len, (uint32_t)n);
    memcpy(*file + *len + 4, stream, n);
    *len += n + 4;
    return PITH_OK;
}

static pith_status write_blocks(job *j, uint8_t **file, size_t *len)
{
    pith_ctx *ctx = j->c->ctx;
    size_t n_blocks = n_blocks_of(j->n_items), cap = HEADER;
    for (j->first = 0; j->first < n_blocks; j->first += WAVE) {
        size_t n = PITH_MIN((size_t)WAVE, n_blocks - j->first);
        PITH_TRY(pith_progress(ctx, "encoding", j->first, n_blocks));
        pith_parallel(ctx, n, write_block, j);
        for (size_t i = 0; i < n; i++) {
            if (j->result[i] != PITH_OK) return pith_fail(ctx, PITH_E_INTERNAL, "block %zu took more than its %zu bytes; please report this", j->first + i, j->cap);
            PITH_TRY(append(ctx, file, len, &cap, j->stream + i * j->cap, j->len[i]));
        }
    }
    return pith_progress(ctx, "encoding", n_blocks, n_blocks);
}

pith_status pith_circuit_encode(const pith_circuit *c, const uint8_t *x, size_t n_items, uint8_t **file, size_t *len)
{
    uint64_t id;
    if (n_items > UINT32_MAX || c->n > UINT32_MAX / BLOCK / 4) return pith_fail(c->ctx, PITH_E_ARGUMENT, "%zu images of %zu values are too many for one file: at most %u of %u", n_items, c->n, UINT32_MAX, UINT32_MAX / BLOCK / 4);
    PITH_TRY(pith_circuit_values_fit(c, x, n_items));
    PITH_TRY(circuit_id(c, &id));
    job j = {.c = c, .x = x, .n_items = n_items};
    uint8_t *data = pith_alloc(c->ctx, HEADER);
    size_t n = HEADER;
    pith_status status = data ? job_begin(&j) : PITH_E_MEMORY;
    if (status == PITH_OK) {
        memcpy(data, magic, sizeof magic);
        pith_put32(data + 8, VERSION);
        pith_put32(data + 12, (uint32_t)c->n);
        pith_put64(data + 16, n_items);
        pith_put64(data + 24, id);
        pith_put64(data + 32, pith_hash(x, n_items * c->n));
        pith_put64(data + 40, pith_hash(data, HEADER - 8));
        status = write_blocks(&j, &data, &n);
    }
    job_end(&j);
    if (status != PITH_OK) {
        pith_free(c->ctx, data);
        return status;
    }
    *file = data, *len = n;
    return PITH_OK;
}

static pith_status read_blocks(job *j, const uint8_t *file, size_t len)
{
    pith_ctx *ctx = j->c->ctx;
    size_t n_blocks = n_blocks_of(j->n_items), at = HEADER;
    for (j->first = 0; j->first < n_blocks; j->first += WAVE) {
        size_t n = PITH_MIN((size_t)WAVE, n_blocks - j->first);
        PITH_TRY(pith_progress(ctx, "decoding", j->first, n_blocks));
        for (size_t i = 0; i < n; i++) {
            size_t rest = len - at, size = rest < 4 ? SIZE_MAX : pith_le32(file + at);
            if (rest < 4 || size > rest - 4) return pith_fail(ctx, PITH_E_CORRUPT, "offset %zu: block %zu of %zu does not end within the file; it is cut or damaged, get it again", at, j->first + i, n_blocks);
            j->src[i] = file + at + 4, j->len[i] = size;
            at += size + 4;
        }
        pith_parallel(ctx, n, read_block, j);
        for (size_t i = 0; i < n; i++)
            if (j->result[i] != PITH_OK) return pith_fail(ctx, PITH_E_CORRUPT, "offset %td: block %zu of %zu is damaged; get the file again", j->src[i] - file, j->first + i, n_blocks);
    }
    if (at != len) return pith_fail(ctx, PITH_E_CORRUPT, "offset %zu: %zu bytes follow the last block; the file is damaged, get it again", at, len - at);
    return pith_progress(ctx, "decoding", n_blocks, n_blocks);
}

static pith_status check_header(const pith_circuit *c, const uint8_t *file, size_t len)
{
    pith_ctx *ctx = c->ctx;
    uint64_t id;
    if (len < HEADER || memcmp(file, magic, sizeof magic)) return pith_fail(ctx, PITH_E_CORRUPT, "these are no images by a circuit: the file does not begin with %.8s and %d more bytes", magic, HEADER - 8);
    if (pith_le64(file + HEADER - 8) != pith_hash(file, HEADER - 8)) return pith_fail(ctx, PITH_E_CORRUPT, "offset 0: the header is damaged; get the file again");
    if (pith_le32(file + 8) != VERSION)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "the images' file is of version %u, and this pith reads version %d: a newer one is needed", pith_le32(file + 8), VERSION);
    PITH_TRY(circuit_id(c, &id));
    if (pith_le32(file + 12) != c->n || pith_le64(file + 24) != id)
        return pith_fail(ctx, PITH_E_ARGUMENT, "the images were written by another circuit, %016llx, than this one, %016llx: open the file with that one", (unsigned long long)pith_le64(file + 24), (unsigned long long)id);
    if (n_blocks_of((size_t)pith_le64(file + 16)) > (len - HEADER) / 4)
        return pith_fail(ctx, PITH_E_CORRUPT, "offset 16: %llu images cannot be in %zu bytes; the file is cut or damaged, get it again", (unsigned long long)pith_le64(file + 16), len);
    return PITH_OK;
}

pith_status pith_circuit_decode(const pith_circuit *c, const uint8_t *file, size_t len, uint8_t **x, size_t *n_items)
{
    PITH_TRY(check_header(c, file, len));
    job j = {.c = c, .n_items = (size_t)pith_le64(file + 16)};
    if (!(j.y = pith_array(c->ctx, j.n_items, c->n))) return PITH_E_MEMORY;
    pith_status status = job_begin(&j);
    if (status == PITH_OK) status = read_blocks(&j, file, len);
    if (status == PITH_OK && pith_hash(j.y, j.n_items * c->n) != pith_le64(file + 32))
        status = pith_fail(c->ctx, PITH_E_CORRUPT, "the images are not those that were written: their checksum differs; get the file again");
    job_end(&j);
    if (status != PITH_OK) {
        pith_free(c->ctx, j.y);
        return status;
    }
    *x = j.y, *n_items = j.n_items;
    return PITH_OK;
}
