#include "stage/quantize/embedded.h"
#include "stage/quantize/value_loops.h"

#include <math.h>

/* Classes are quarter octaves of rms / step at the level in question ("effective class"). */
#define E_START (-5)             /* a group starts at the first level where its rms is at least 0.42 steps */
#define E_START_MAX (E_START + PITH_START_CLASSES - 1) /* above this, low bits are stored as they are */
#define E_RAW 9                  /* splits of groups above this are even: stored as they are */
#define MAX_DELTA 24             /* classes and step codes follow their prediction within this */
#define SPLIT_CONTEXTS 40
/* Raw bytes of a group at most: its low bits and an escape a value. */
#define RAW_CAP (PITH_GROUP * 4 + PITH_GROUP / 8 * 16)
#define MAX_START (1 << 20)      /* of a starting value: leaves room for the splits to come */

static int effective(int group_class, int level) { return group_class - PITH_CLASS_ZERO + 4 * level; }

int pith_class_start(int group_class)
{
    int e = effective(group_class, 0);
    int k = e >= E_START ? 0 : (E_START - e + 3) / 4;
    return group_class == 0 || k > PITH_MAX_LEVELS ? PITH_MAX_LEVELS : k;
}

/* Bits stored as they are, and the model of the rest, for a group that starts with effective class e. */
static int raw_bits(int e) { return e <= E_START_MAX ? 0 : (e - E_START_MAX + 3) / 4; }
static int start_model(int e) { return PITH_MAX(e - 4 * raw_bits(e) - E_START, 0); }

float pith_step_of_code(uint8_t code)
{
    /* 2^(i/8) rounded to f32; the rest is a power of two, so every machine has the same product. */
    static const float eighth[8] = {0x1p0f, 0x1.172b84p0f, 0x1.306fep0f, 0x1.4bfdaep0f, 0x1.6a09e6p0f, 0x1.8ace54p0f, 0x1.ae89fap0f, 0x1.d5818ep0f};
    return ldexpf(eighth[code & 7], code >> 3);
}

/* ---- models ----------------------------------------------------------------------------------- */

void pith_models_ready(pith_models *m)
{
    for (int i = 0; i < PITH_N_MODELS; i++) {
        pith_rans_encoder_init(&m->encoder[i], &m->model[i]);
        pith_rans_decoder_init(&m->decoder[i], &m->model[i]);
    }
}

void pith_model_counts_init(pith_model_counts *c)
{
    memset(c, 0, sizeof *c);
    for (int d = -MAX_DELTA; d <= MAX_DELTA; d++) c->count[PITH_MODEL_STEP][d & 255] = c->count[PITH_MODEL_CLASS][d & 255] = 1;
    for (int i = 0; i < SPLIT_CONTEXTS; i++)
        for (int s = 0; s < 2; s++) c->count[PITH_MODEL_SPLIT][PITH_RANS_INDEX(i, s)] = 1;
    for (int i = 0; i < PITH_START_CLASSES; i++)
        for (int s = 0; s < 16; s++) c->count[PITH_MODEL_START + i][s] = 1;
}

pith_status pith_models_fit(const pith_model_counts *c, pith_models *m)
{
    for (int i = 0; i < PITH_N_MODELS; i++) {
        bool split = i == PITH_MODEL_SPLIT;
        PITH_TRY(pith_rans_model_fit(split ? PITH_RANS_BINARY : PITH_RANS_SYMBOLS, split ? SPLIT_CONTEXTS : 1, c->count[i], &m->model[i]));
    }
    pith_models_ready(m);
    return PITH_OK;
}

pith_status pith_models_write(const pith_models *m, uint8_t *dst, size_t cap, size_t *len)
{
    *len = 0;
    for (int i = 0; i < PITH_N_MODELS; i++) {
        size_t n;
        PITH_TRY(pith_rans_model_write(&m->model[i], dst + *len, cap - *len, &n));
        *len += n;
    }
    return PITH_OK;
}

pith_status pith_models_read(const uint8_t *src, size_t len, pith_models *m)
{
    for (int i = 0; i < PITH_N_MODELS; i++) {
        size_t used;
        PITH_TRY(pith_rans_model_read(src, len, &m->model[i], &used));
        if (m->model[i].kind != (i == PITH_MODEL_SPLIT ? PITH_RANS_BINARY : PITH_RANS_SYMBOLS)) return PITH_E_CORRUPT;
        src += used;
        len -= used;
    }
    if (len) return PITH_E_CORRUPT;
    pith_models_ready(m);
    return PITH_OK;
}

/* ---- a unit in memory ------------------------------------------------------------------------- */

size_t pith_unit_bytes(size_t n_tiles, size_t n_blocks)
{
    return PITH_ROUND_UP(n_tiles, PITH_ALIGN) + PITH_ROUND_UP(n_tiles * n_blocks, PITH_ALIGN) + n_tiles * n_blocks * PITH_GROUP * sizeof(int32_t);
}

void pith_unit_init(pith_unit *u, size_t n_tiles, size_t n_blocks, void *memory)
{
    uint8_t *p = memory;
    *u = (pith_unit){.n_tiles = n_tiles, .n_blocks = n_blocks, .level = -1, .step_code = p};
    u->group_class = p + PITH_ROUND_UP(n_tiles, PITH_ALIGN);
    u->m = (int32_t *)(u->group_class + PITH_ROUND_UP(n_tiles * n_blocks, PITH_ALIGN));
    memset(u->group_class, 0, n_tiles * n_blocks);
}

/* Scratch: symbols and contexts of one level, raw bits, escapes, headers of tiles. */
typedef struct level_scratch {
    uint8_t *symbols;        /* [groups * 512] rANS elements in coding order */
    uint8_t *contexts;       /* [groups * 512] of the splits */
    uint8_t *side;           /* [tiles + groups] deltas of step codes and classes */
    uint32_t *order;         /* [groups] groups in coding order */
} level_scratch;

size_t pith_unit_scratch(size_t n_tiles, size_t n_blocks)
{
    size_t groups = n_tiles * n_blocks;
    return 2 * groups * PITH_GROUP + PITH_ROUND_UP(n_tiles + groups, PITH_ALIGN) + PITH_ROUND_UP(groups * 4, PITH_ALIGN);
}

static level_scratch lay_out(const pith_unit *u, void *memory)
{
    size_t groups = u->n_tiles * u->n_blocks;
    level_scratch s = {.symbols = memory};
    s.contexts = s.symbols + groups * PITH_GROUP;
    s.side = s.contexts + groups * PITH_GROUP;
    s.order = (uint32_t *)(s.side + PITH_ROUND_UP(u->n_tiles + groups, PITH_ALIGN));
    return s;
}

/* What a level does to a group. */
typedef enum group_act { ACT_NONE, ACT_START, ACT_SPLIT, ACT_SPLIT_RAW } group_act;
static group_act act_of(int group_class, int level)
{
    int start = pith_class_start(group_class);
    if (level < start) return ACT_NONE;
    if (level == start) return ACT_START;
    return effective(group_class, level) > E_RAW ? ACT_SPLIT_RAW : ACT_SPLIT;
}

/* Groups in coding order: those that start, by model; then splits; then raw splits.  n[0..8] starts of
 * each model, n[9] splits, n[10] raw splits. */
#define N_KINDS (PITH_START_CLASSES + 2)
static void sort_groups(const pith_unit *u, int level, uint32_t *order, size_t n[N_KINDS])
{
    size_t groups = u->n_tiles * u->n_blocks, at[N_KINDS];
    uint8_t kind_of_class[PITH_CLASS_MAX + 1];
    for (int c = 0; c <= PITH_CLASS_MAX; c++) {
        group_act act = act_of(c, level);
        kind_of_class[c] = (uint8_t)(act == ACT_NONE ? 255 : act == ACT_START ? start_model(effective(c, level)) : PITH_START_CLASSES + (act == ACT_SPLIT_RAW));
    }
    memset(n, 0, N_KINDS * sizeof *n);
    for (size_t g = 0; g < groups; g++) {
        uint8_t kind = kind_of_class[u->group_class[g]];
        if (kind != 255) n[kind]++;
    }
    size_t sum = 0;
    for (int k = 0; k < N_KINDS; k++) {
        at[k] = sum;
        sum += n[k];
    }
    for (size_t g = 0; g < groups; g++) {
        uint8_t kind = kind_of_class[u->group_class[g]];
        if (kind != 255) order[at[kind]++] = (uint32_t)g;
    }
}

/* Split contexts: first split (from a centred cell) or a later one; half octaves of the effective class;
 * magnitude of the cell. */
static int split_base(int group_class, int level)
{
    int e = effective(group_class, level), first = level == pith_class_start(group_class) + 1;
    int half = PITH_MIN(PITH_MAX((e + 1) / 2, 0), 4);
    return ((first ? 0 : 5) + half) * 4;
}

/* The cell after a split: first: v -> 2v - 1 (lower) or 2v (upper); later: m -> 2m or 2m + 1. */
static inline int split_cell(int m, bool first, int upper) { return 2 * m - first + upper; }

/* ---- writing ---------------------------------------------------------------------------------- */

static int clamp_delta(int value, int predicted)
{
    return PITH_MIN(PITH_MAX(value, predicted - MAX_DELTA), predicted + MAX_DELTA);
}

void pith_unit_classify(pith_unit *u, const float *z, const float *step)
{
    size_t ld = u->n_blocks * PITH_GROUP_COLS;
    for (size_t t = 0; t < u->n_tiles; t++) {
        for (size_t b = 0; b < u->n_blocks; b++) {
            double sum = 0;
            for (size_t r = 0; r < PITH_GROUP_ROWS; r++) {
                const float *row = z + (t * PITH_GROUP_ROWS + r) * ld + b * PITH_GROUP_COLS;
                float part = 0;
                for (size_t c = 0; c < PITH_GROUP_COLS; c++) part += row[c] * row[c];
                sum += (double)part;
            }
            double ratio = sqrt(sum / PITH_GROUP) / (double)step[t];
            int code = ratio > 1e-12 ? (int)lrint(4 * log2(ratio)) + PITH_CLASS_ZERO : 0;
            size_t g = t * u->n_blocks + b;
            int predicted = t ? u->group_class[g - u->n_blocks] : b ? u->group_class[g - 1] : PITH_CLASS_ZERO;
            u->group_class[g] = (uint8_t)PITH_MIN(PITH_MAX(clamp_delta(code, predicted), 0), PITH_CLASS_MAX);
        }
    }
}

static void count(pith_model_counts *c, int model, uint8_t symbol)
{
    if (c) c->count[model][symbol]++;
}

static size_t put_side(const pith_unit *u, uint8_t *side, pith_model_counts *counts)
{
    size_t n = 0;
    for (size_t t = 0; t < u->n_tiles; t++, n++) {
        side[n] = (uint8_t)(u->step_code[t] - (t ? u->step_code[t - 1] : 128));
        if (t) count(counts, PITH_MODEL_STEP, side[n]);
    }
    for (size_t g = 0; g < u->n_tiles * u->n_blocks; g++, n++) {
        int predicted = g >= u->n_blocks ? u->group_class[g - u->n_blocks] : g ? u->group_class[g - 1] : PITH_CLASS_ZERO;
        side[n] = (uint8_t)(u->group_class[g] - predicted);
        count(counts, PITH_MODEL_CLASS, side[n]);
    }
    return n;
}

/* Values of one group that starts: symbols out, low bits and escapes appended to `raw`. */
static uint8_t *start_group(pith_unit *u, size_t g, const float *z, float step, uint8_t *symbols, uint8_t *raw)
{
    size_t t = g / u->n_blocks, b = g % u->n_blocks, ld = u->n_blocks * PITH_GROUP_COLS;
    int e = effective(u->group_class[g], u->level + 1), s = raw_bits(e), half = s ? 1 << (s - 1) : 0;
    int32_t *m = u->m + g * PITH_GROUP;
    uint8_t *low = raw, *end = raw + (size_t)s * PITH_GROUP / 8;
    memset(low, 0, (size_t)s * PITH_GROUP / 8);
    for (size_t i = 0; i < PITH_GROUP; i++) {
        float x = z[(t * PITH_GROUP_ROWS + i / PITH_GROUP_COLS) * ld + b * PITH_GROUP_COLS + i % PITH_GROUP_COLS] / step;
        int v = (int)lrintf(PITH_MIN(PITH_MAX(x, (float)-MAX_START), (float)MAX_START));
        int high = (v + half) >> s;
        m[i] = (int32_t)v;
        symbols[i] = (uint8_t)(high >= -7 && high <= 7 ? high + 8 : PITH_START_ESCAPE);
        if (symbols[i] == PITH_START_ESCAPE) {
            pith_put32(end, (uint32_t)v);
            end += 4;
        } else {
            unsigned bits = (unsigned)(v + half) & ((1u << s) - 1);
            for (int k = 0; k < s; k++) low[(size_t)k * PITH_GROUP / 8 + i / 8] |= (uint8_t)((bits >> k & 1) << (i & 7));
        }
    }
    return end;
}

/* Which half of its cell each value is in. */
static void split_group(pith_unit *u, size_t g, const float *z, float step, bool first, uint8_t upper[PITH_GROUP])
{
    size_t t = g / u->n_blocks, b = g % u->n_blocks, ld = u->n_blocks * PITH_GROUP_COLS;
    const int32_t *m = u->m + g * PITH_GROUP;
    for (size_t i = 0; i < PITH_GROUP; i++) {
        float x = z[(t * PITH_GROUP_ROWS + i / PITH_GROUP_COLS) * ld + b * PITH_GROUP_COLS + i % PITH_GROUP_COLS] / step;
        upper[i] = x >= (float)(2 * m[i] + !first);
    }
}

size_t pith_unit_bound(size_t n_tiles, size_t n_blocks)
{
    size_t groups = n_tiles * n_blocks;
    /* rANS of everything, raw bits of the highest class, an escape each */
    return 8 + pith_rans_bound(n_tiles + groups * (PITH_GROUP + 1)) + groups * RAW_CAP;
}

/* A packet: u32 bytes of the rANS stream, the stream, then raw bytes: for each group that starts, in
 * coding order, its low bits by plane and its escapes; then 64 bytes for each raw split. */
pith_status pith_unit_encode(pith_unit *u, const float *z, const float *step, pith_isa isa, pith_level_out *out, void *scratch)
{
    level_scratch s = lay_out(u, scratch);
    int level = u->level + 1;
    size_t n[N_KINDS], n_side = 0, n_segments = 0, at = 0;
    pith_rans_segment segments[N_KINDS + 3];
    const pith_models *models = out->models;
    if (level == 0) {
        n_side = put_side(u, s.side, out->counts);
        if (models) {
            segments[n_segments++] = (pith_rans_segment){&models->encoder[PITH_MODEL_STEP], s.side + 1, NULL, u->n_tiles - 1};
            segments[n_segments++] = (pith_rans_segment){&models->encoder[PITH_MODEL_CLASS], s.side + u->n_tiles, NULL, n_side - u->n_tiles};
        }
    }
    sort_groups(u, level, s.order, n);
    /* Raw bytes are gathered at the end of dst, then moved behind the stream. */
    size_t raw_cap = u->n_tiles * u->n_blocks * RAW_CAP;
    uint8_t *raw = out->dst + (out->cap - raw_cap), *raw_start = raw;
    const uint32_t *order = s.order;
    for (int kind = 0; kind < PITH_START_CLASSES; kind++) {
        uint8_t *symbols = s.symbols + at * PITH_GROUP;
        for (size_t i = 0; i < n[kind]; i++, at++) {
            size_t g = order[at];
            raw = start_group(u, g, z, ldexpf(step[g / u->n_blocks], -level), s.symbols + at * PITH_GROUP, raw);
        }
        if (!n[kind]) continue;
        if (models) segments[n_segments++] = (pith_rans_segment){&models->encoder[PITH_MODEL_START + kind], symbols, NULL, n[kind] * PITH_GROUP};
        if (out->counts) pith_rans_count(symbols, NULL, n[kind] * PITH_GROUP, out->counts->count[PITH_MODEL_START + kind]);
    }
    uint8_t *splits = s.symbols + at * PITH_GROUP;
    for (size_t i = 0; i < n[PITH_START_CLASSES] + n[PITH_START_CLASSES + 1]; i++, at++) {
        size_t g = order[at];
        bool coded = i < n[PITH_START_CLASSES], first = level == pith_class_start(u->group_class[g]) + 1;
        uint8_t upper[PITH_GROUP], *contexts = s.contexts + i * PITH_GROUP;
        int base = split_base(u->group_class[g], level);
        int32_t *m = u->m + g * PITH_GROUP;
        split_group(u, g, z, ldexpf(step[g / u->n_blocks], -level), first, upper);
        if (coded) {
            for (size_t k = 0; k < PITH_GROUP; k++) splits[i * PITH_GROUP + k] = (uint8_t)(upper[k] ^ pith_split_flip(m[k], first));
            pith_value_loops_for(isa)->split_contexts(m, first, base, contexts);
        } else {
            memset(raw, 0, PITH_GROUP / 8);
            for (size_t k = 0; k < PITH_GROUP; k++) raw[k / 8] |= (uint8_t)(upper[k] << (k & 7));
            raw += PITH_GROUP / 8;
        }
        for (size_t k = 0; k < PITH_GROUP; k++) m[k] = split_cell(m[k], first, upper[k]);
    }
    size_t n_splits = n[PITH_START_CLASSES] * PITH_GROUP;
    if (n_splits && models) segments[n_segments++] = (pith_rans_segment){&models->encoder[PITH_MODEL_SPLIT], splits, s.contexts, n_splits};
    if (n_splits && out->counts) pith_rans_count(splits, s.contexts, n_splits, out->counts->count[PITH_MODEL_SPLIT]);
    u->level = level;
    if (!models) return PITH_OK;
    size_t stream, head = level == 0 ? 5 : 4, n_raw = (size_t)(raw - raw_start);
    PITH_TRY(pith_rans_encode(isa, segments, n_segments, out->dst + head, out->cap - head - raw_cap, &stream));
    pith_put32(out->dst, (uint32_t)stream);
    if (level == 0) out->dst[4] = u->step_code[0];
    memmove(out->dst + head + stream, raw_start, n_raw);
    out->len = head + stream + n_raw;
    return PITH_OK;
}

double pith_unit_error(const pith_unit *u, const float *z, const float *step, const double *weight)
{
    size_t ld = u->n_blocks * PITH_GROUP_COLS;
    double sum = 0;
    for (size_t t = 0; t < u->n_tiles; t++) {
        float scale = u->level < 0 ? 0 : ldexpf(step[t], -u->level);
        double tile = 0;
        for (size_t b = 0; b < u->n_blocks; b++) {
            size_t g = t * u->n_blocks + b;
            int start = pith_class_start(u->group_class[g]);
            float middle = u->level > start ? 0.5f : 0;
            const int32_t *m = u->m + g * PITH_GROUP;
            float part = 0;
            for (size_t i = 0; i < PITH_GROUP; i++) {
                float x = z[(t * PITH_GROUP_ROWS + i / PITH_GROUP_COLS) * ld + b * PITH_GROUP_COLS + i % PITH_GROUP_COLS];
                float e = x - (u->level < start ? 0 : ((float)m[i] + middle) * scale);
                part += e * e;
            }
            tile += (double)part;
        }
        sum += weight[t] * tile;
    }
    return sum;
}

float pith_unit_noise(const pith_unit *u, size_t group, float step0)
{
    int group_class = u->group_class[group];
    if (u->level >= 0 && u->level >= pith_class_start(group_class)) {
        float step = ldexpf(step0, -u->level);
        return step * step / 12;
    }
    int half_octaves = group_class - PITH_CLASS_ZERO;
    return step0 * step0 * ldexpf(half_octaves & 1 ? 0x1.6a09e6p0f : 1, half_octaves >> 1);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static pith_status get_side(pith_unit *u, const uint8_t *side)
{
    size_t n = 1;
    for (size_t t = 1; t < u->n_tiles; t++, n++) u->step_code[t] = (uint8_t)(u->step_code[t - 1] + side[n]);
    for (size_t g = 0; g < u->n_tiles * u->n_blocks; g++, n++) {
        int predicted = g >= u->n_blocks ? u->group_class[g - u->n_blocks] : g ? u->group_class[g - 1] : PITH_CLASS_ZERO;
        uint8_t code = (uint8_t)(predicted + side[n]);
        if (code > PITH_CLASS_MAX) return PITH_E_CORRUPT;
        u->group_class[g] = code;
    }
    return PITH_OK;
}

pith_status pith_unit_decode(pith_unit *u, const pith_models *models, pith_isa isa, const uint8_t *src, size_t len, void *scratch)
{
    level_scratch s = lay_out(u, scratch);
    int level = u->level + 1;
    size_t n[N_KINDS], groups = u->n_tiles * u->n_blocks, at = 0, head = level == 0 ? 5 : 4;
    const pith_value_loops *loops = pith_value_loops_for(isa);
    pith_rans_reader reader;
    if (level >= PITH_MAX_LEVELS || len < head) return PITH_E_CORRUPT;
    size_t stream = pith_le32(src);
    if (stream > len - head) return PITH_E_CORRUPT;
    const uint8_t *raw = src + head + stream, *end = src + len;
    PITH_TRY(pith_rans_read_begin(&reader, isa, src + head, stream));
    if (level == 0) {
        u->step_code[0] = src[4];
        PITH_TRY(pith_rans_read(&reader, &models->decoder[PITH_MODEL_STEP], NULL, s.side + 1, u->n_tiles - 1));
        PITH_TRY(pith_rans_read(&reader, &models->decoder[PITH_MODEL_CLASS], NULL, s.side + u->n_tiles, groups));
        PITH_TRY(get_side(u, s.side));
    }
    sort_groups(u, level, s.order, n);
    size_t n_starts = 0, n_splits = n[PITH_START_CLASSES];
    for (int kind = 0; kind < PITH_START_CLASSES; kind++) {
        PITH_TRY(pith_rans_read(&reader, &models->decoder[PITH_MODEL_START + kind], NULL, s.symbols + n_starts * PITH_GROUP, n[kind] * PITH_GROUP));
        n_starts += n[kind];
    }
    for (size_t i = 0; i < n_splits; i++) {
        size_t g = s.order[n_starts + i];
        bool first = level == pith_class_start(u->group_class[g]) + 1;
        loops->split_contexts(u->m + g * PITH_GROUP, first, split_base(u->group_class[g], level), s.contexts + i * PITH_GROUP);
    }
    uint8_t *splits = s.symbols + n_starts * PITH_GROUP;
    PITH_TRY(pith_rans_read(&reader, &models->decoder[PITH_MODEL_SPLIT], s.contexts, splits, n_splits * PITH_GROUP));
    PITH_TRY(pith_rans_read_end(&reader));

    /* Nothing in u->m is touched before all lengths are known to fit. */
    const uint8_t *p = raw;
    for (size_t i = 0; i < n_starts; i++) {
        const uint8_t *symbols = s.symbols + i * PITH_GROUP;
        size_t bytes = (size_t)raw_bits(effective(u->group_class[s.order[i]], level)) * PITH_GROUP / 8, escapes = 0;
        for (size_t k = 0; k < PITH_GROUP; k++) escapes += symbols[k] == PITH_START_ESCAPE;
        bytes += 4 * escapes;
        if (bytes > (size_t)(end - p)) return PITH_E_CORRUPT;
        p += bytes;
    }
    if ((size_t)(end - p) != n[PITH_START_CLASSES + 1] * PITH_GROUP / 8) return PITH_E_CORRUPT;

    for (; at < n_starts; at++) {
        size_t g = s.order[at];
        const uint8_t *symbols = s.symbols + at * PITH_GROUP;
        int bits = raw_bits(effective(u->group_class[g], level));
        int32_t *m = u->m + g * PITH_GROUP;
        size_t escapes = loops->start(symbols, raw, bits, m);
        raw += (size_t)bits * PITH_GROUP / 8;
        for (size_t k = 0; k < PITH_GROUP && escapes > 0; k++) {
            if (symbols[k] != PITH_START_ESCAPE) continue;
            m[k] = PITH_MIN(PITH_MAX((int32_t)pith_le32(raw), -MAX_START), MAX_START);
            raw += 4;
            escapes--;
        }
    }
    for (size_t i = 0; i < n_splits + n[PITH_START_CLASSES + 1]; i++, at++) {
        size_t g = s.order[at];
        bool first = level == pith_class_start(u->group_class[g]) + 1;
        int32_t *m = u->m + g * PITH_GROUP;
        if (i < n_splits) {
            loops->split(splits + i * PITH_GROUP, first, m);
        } else {
            loops->split_bits(raw, first, m);
            raw += PITH_GROUP / 8;
        }
    }
    u->level = level;
    return PITH_OK;
}

pith_status pith_unit_restore(pith_unit *u, uint32_t number, const pith_models *models, pith_isa isa, pith_fetch_fn *fetch, void *user, uint8_t *buffer, void *scratch, size_t *n_damaged)
{
    for (int k = u->level + 1; k < PITH_MAX_LEVELS; k++) {
        const uint8_t *data;
        size_t len;
        pith_status status = fetch(user, number, k, buffer, &data, &len);
        if (status == PITH_OK && len == 0) break;
        if (status == PITH_OK) status = pith_unit_decode(u, models, isa, data, len, scratch);
        if (status == PITH_E_CORRUPT) {
            ++*n_damaged;
            break;
        }
        PITH_TRY(status);
    }
    return PITH_OK;
}
