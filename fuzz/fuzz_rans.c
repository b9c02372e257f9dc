/* The entropy coder on any bytes.  The input's first byte chooses:
 *   odd   models and a stream as a file would hold them: no instruction set reads outside, all say the same, and
 *         what is accepted is written back to the same bytes
 *   even  elements: what is fitted and written to them is read back */

#include "fuzz.h"
#include "stage/code/rans.h"

#define MAX_N 5000
#define MAX_SEGMENTS 4

/* Asked once: in a virtual machine each answer of the processor is slow. */
static pith_isa best_isa(void)
{
    static pith_isa isa;
    static bool known;
    if (known) return isa;
    known = true;
    pith_ctx *ctx = fuzz_ctx(0);
    isa = pith_ctx_cpu(ctx)->isa;
    pith_ctx_free(ctx);
    return isa;
}

/* The sets to compare: up to the one in use. */
static size_t find_isas(pith_isa isas[3])
{
    pith_isa best = best_isa();
    size_t n = 0;
    isas[n++] = PITH_ISA_SCALAR;
    if (best == PITH_ISA_AVX512) isas[n++] = PITH_ISA_AVX2;
    if (best != PITH_ISA_SCALAR) isas[n++] = best;
    return n;
}

typedef struct part {
    pith_rans_model model;
    pith_rans_encoder encoder;
    pith_rans_decoder decoder;
    uint8_t contexts[MAX_N], symbols[MAX_N], first[MAX_N];
    size_t n;
} part;

static pith_status read_all(pith_isa isa, const uint8_t *stream, size_t len, part *parts, size_t n)
{
    pith_rans_reader reader;
    PITH_TRY(pith_rans_read_begin(&reader, isa, stream, len));
    for (size_t i = 0; i < n; i++) PITH_TRY(pith_rans_read(&reader, &parts[i].decoder, parts[i].contexts, parts[i].symbols, parts[i].n));
    return pith_rans_read_end(&reader);
}

static void fuzz_stream(const pith_isa *isas, size_t n_isas, const uint8_t *data, size_t len, part *parts)
{
    size_t n = 0, used;
    while (n < MAX_SEGMENTS && len >= 3 && data[0] % 4 != 0) {
        part *p = &parts[n];
        p->n = pith_le16(data + 1) % MAX_N;
        for (size_t i = 0; i < p->n; i++) p->contexts[i] = (uint8_t)(i * data[0] >> 3);
        data += 3, len -= 3;
        if (pith_rans_model_read(data, len, &p->model, &used) != PITH_OK) return;
        uint8_t again[PITH_RANS_MODEL_BYTES];
        size_t again_len = 0;
        require(pith_rans_model_write(&p->model, again, sizeof again, &again_len) == PITH_OK);
        require(again_len == used && memcmp(again, data, used) == 0);
        data += used, len -= used;
        pith_rans_decoder_init(&p->decoder, &p->model);
        pith_rans_encoder_init(&p->encoder, &p->model);
        n++;
    }
    pith_status first = PITH_OK;
    for (size_t k = 0; k < n_isas; k++) {
        pith_status status = read_all(isas[k], data, len, parts, n);
        if (k == 0) first = status;
        require(status == first);
        for (size_t i = 0; i < n && status == PITH_OK; i++) {
            if (k == 0) memcpy(parts[i].first, parts[i].symbols, parts[i].n);
            require(memcmp(parts[i].first, parts[i].symbols, parts[i].n) == 0);
        }
    }
    if (first != PITH_OK) return;
    pith_rans_segment segments[MAX_SEGMENTS];
    size_t total = 0, again_len = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < parts[i].n; j++) parts[i].contexts[j] %= PITH_RANS_CONTEXTS; /* as the reader takes them */
        segments[i] = (pith_rans_segment){&parts[i].encoder, parts[i].symbols, parts[i].contexts, parts[i].n};
        total += parts[i].n;
    }
    uint8_t *again = malloc(pith_rans_bound(total));
    require(again != NULL);
    for (size_t k = 0; k < n_isas; k++) {
        require(pith_rans_encode(isas[k], segments, n, again, pith_rans_bound(total), &again_len) == PITH_OK);
        /* 32 first states and nothing else may be spelt out; a writer leaves them away */
        if (again_len == 0 && len == PITH_RANS_STATE_BYTES) continue;
        require(again_len == len && (len == 0 || memcmp(again, data, len) == 0));
    }
    free(again);
}

static void fuzz_elements(const pith_isa *isas, size_t n_isas, const uint8_t *data, size_t len, part *p)
{
    if (len < 3) return;
    pith_rans_kind kind = (pith_rans_kind)(data[0] % 3);
    uint8_t mask = data[1], step = data[2];
    p->n = PITH_MIN(len - 3, (size_t)MAX_N);
    for (size_t i = 0; i < p->n; i++) {
        p->contexts[i] = (uint8_t)(i * step % PITH_RANS_CONTEXTS);
        p->first[i] = kind == PITH_RANS_SYMBOLS ? data[3 + i] & mask : data[3 + i] % (kind == PITH_RANS_BINARY ? 2 : 3);
    }
    uint64_t counts[256] = {0};
    pith_rans_count(p->first, kind == PITH_RANS_SYMBOLS ? NULL : p->contexts, p->n, counts);
    pith_status status = pith_rans_model_fit(kind, PITH_RANS_CONTEXTS, counts, &p->model);
    if (p->n == 0 && kind == PITH_RANS_SYMBOLS) {
        require(status == PITH_E_ARGUMENT);
        return;
    }
    require(status == PITH_OK);
    pith_rans_encoder_init(&p->encoder, &p->model);
    pith_rans_decoder_init(&p->decoder, &p->model);
    pith_rans_segment segment = {&p->encoder, p->first, p->contexts, p->n};
    size_t cap = pith_rans_bound(p->n), stream_len = 0, first_len = 0;
    uint8_t *stream = malloc(cap), *first = malloc(cap);
    require(stream && first);
    for (size_t k = 0; k < n_isas; k++) {
        require(pith_rans_encode(isas[k], &segment, 1, stream, cap, &stream_len) == PITH_OK);
        if (k == 0) {
            memcpy(first, stream, stream_len);
            first_len = stream_len;
        }
        require(stream_len == first_len && memcmp(stream, first, stream_len) == 0);
        require((double)stream_len <= pith_rans_model_bits(&p->model, counts) * 1.001 / 8 + PITH_RANS_STATE_BYTES + 64);
        require(read_all(isas[k], stream, stream_len, p, 1) == PITH_OK);
        require(memcmp(p->symbols, p->first, p->n) == 0);
    }
    free(stream);
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    pith_isa isas[3];
    size_t n_isas = find_isas(isas);
    part *parts = calloc(MAX_SEGMENTS, sizeof *parts);
    require(parts != NULL);
    if (data[0] % 2) fuzz_stream(isas, n_isas, data + 1, len - 1, parts);
    else fuzz_elements(isas, n_isas, data + 1, len - 1, parts);
    free(parts);
    return 0;
}
