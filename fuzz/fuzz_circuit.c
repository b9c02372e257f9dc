/* Circuits and their files of images from any bytes, with right checksums.  The input's first byte chooses:
 *   even  a circuit: what is accepted gives tables that are whole
 *   odd   images of a small circuit that is always the same: an error, or images that are written to a file that is read back */

#include "fuzz.h"
#include "stream/codec/circuit.h"

static void fuzz_circuit(pith_ctx *ctx, uint8_t *file, size_t len)
{
    pith_circuit *c;
    if (len >= 8) pith_put64(file + len - 8, pith_hash(file, len - 8));
    if (pith_circuit_read(ctx, file, len, &c) != PITH_OK) return;
    uint8_t *x = calloc(c->n, 1);
    uint32_t *freq = calloc(c->n * c->n_values, sizeof *freq);
    require(x && freq);
    if (pith_circuit_tables(c, x, freq) == PITH_OK)
        for (size_t i = 0; i < c->n; i++) {
            uint64_t sum = 0;
            for (size_t v = 0; v < c->n_values; v++) {
                require(freq[i * c->n_values + v] >= 1);
                sum += freq[i * c->n_values + v];
            }
            require(sum == 1 << PITH_CIRCUIT_BITS);
        }
    free(freq);
    free(x);
    pith_circuit_free(c);
}

static void fuzz_images(pith_ctx *ctx, uint8_t *file, size_t len)
{
    static const uint8_t seen[] = {0, 1, 2, 3, 1, 1, 2, 3, 2, 2, 0, 1, 3, 3, 0, 1};
    pith_circuit *c;
    uint8_t *circuit, *images, *again, *back;
    size_t circuit_len, n, again_len, n_back;
    require(pith_circuit_new(ctx, seen, 4, 4, &(pith_circuit_options){.n_states = 2, .n_values = 4}, &c) == PITH_OK);
    require(pith_circuit_write(c, &circuit, &circuit_len) == PITH_OK);
    if (len >= 48) { /* as if it were this circuit's */
        memcpy(file + 24, circuit + circuit_len - 8, 8);
        pith_put64(file + 40, pith_hash(file, 40));
    }
    if (pith_circuit_decode(c, file, len, &images, &n) == PITH_OK) {
        require(pith_circuit_encode(c, images, n, &again, &again_len) == PITH_OK);
        require(again_len <= len);
        require(pith_circuit_decode(c, again, again_len, &back, &n_back) == PITH_OK && n_back == n && !memcmp(back, images, n * c->n));
        pith_free(ctx, back);
        pith_free(ctx, again);
        pith_free(ctx, images);
    }
    pith_free(ctx, circuit);
    pith_circuit_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!len) return 0;
    pith_ctx *ctx = fuzz_ctx(64 << 20);
    uint8_t *file = fuzz_copy(data + 1, len - 1);
    if (data[0] % 2) fuzz_images(ctx, file, len - 1);
    else fuzz_circuit(ctx, file, len - 1);
    free(file);
    pith_ctx_free(ctx);
    return 0;
}
