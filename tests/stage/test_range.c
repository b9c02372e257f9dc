/* The range coder: what is written is read, in as many bytes as the distributions say, and tables are whole. */
#include <math.h>

#include "stage/code/range.h"
#include "tests/test.h"

#define N 4000

/* Symbols of random tables; `sharp` has nearly all in one symbol, so that carries and long runs of one digit come. */
static void round_trip(int bits, size_t n_symbols, bool sharp, uint64_t seed)
{
    pith_rng rng = {.seed = seed};
    static int32_t freq[N][PITH_RANGE_MAX_SYMBOLS];
    static uint8_t symbol[N];
    size_t cap = pith_range_bound(N, bits), len = 0;
    uint8_t *stream = malloc(cap);
    double ideal = 0;
    pith_range_writer w;
    pith_range_write_begin(&w, stream, cap);
    for (size_t i = 0; i < N; i++) {
        float weight[PITH_RANGE_MAX_SYMBOLS];
        size_t most = pith_rng_below(&rng, (uint32_t)n_symbols);
        for (size_t s = 0; s < n_symbols; s++) weight[s] = pith_rng_uniform(&rng) * (sharp ? 1e-9f : 1);
        weight[most] += 1;
        pith_range_frequencies(weight, n_symbols, bits, freq[i]);
        int64_t sum = 0;
        for (size_t s = 0; s < n_symbols; s++) {
            assert_true(freq[i][s] >= 1);
            sum += freq[i][s];
        }
        assert_int_equal(sum, 1 << bits);
        symbol[i] = (uint8_t)(pith_rng_below(&rng, 50) ? most : pith_rng_below(&rng, (uint32_t)n_symbols));
        ideal += bits - log2(freq[i][symbol[i]]);
        pith_range_write(&w, pith_range_start(freq[i], symbol[i]), (uint32_t)freq[i][symbol[i]], bits);
    }
    assert_int_equal(pith_range_write_end(&w, &len), PITH_OK);
    assert_true((double)len <= ideal / 8 + 1.01);
    assert_true((double)len >= ideal / 8 - 1);
    uint8_t *exact = malloc(len ? len : 1); /* a sanitizer sees a step outside */
    memcpy(exact, stream, len);
    pith_range_reader r;
    pith_range_read_begin(&r, exact, len);
    for (size_t i = 0; i < N; i++) {
        uint32_t start;
        size_t s = pith_range_find(freq[i], pith_range_read(&r, bits), &start);
        assert_int_equal(s, symbol[i]);
        pith_range_read_done(&r, start, (uint32_t)freq[i][s], bits);
    }
    assert_int_equal(pith_range_read_end(&r), PITH_OK);
    free(exact);
    free(stream);
}

static void test_round_trips(void **state)
{
    (void)state;
    static const size_t sizes[] = {2, 3, 17, 255, 256};
    for (size_t i = 0; i < PITH_COUNT(sizes); i++)
        for (int bits = 16; bits <= 24; bits += 8)
            for (int sharp = 0; sharp < 2; sharp++) round_trip(bits, sizes[i], sharp, i);
}

/* The last symbol of a table of one place, again and again: low runs up to the carry. */
static void test_carry(void **state)
{
    (void)state;
    uint8_t stream[4096];
    for (uint32_t n = 1; n < 400; n++) {
        pith_range_writer w;
        pith_range_reader r;
        size_t len;
        pith_range_write_begin(&w, stream, sizeof stream);
        for (uint32_t i = 0; i < n; i++) pith_range_write(&w, i % 7 == 6 ? 1 : (1 << 24) - 1, i % 7 == 6 ? (1 << 24) - 1 : 1, 24);
        assert_int_equal(pith_range_write_end(&w, &len), PITH_OK);
        pith_range_read_begin(&r, stream, len);
        for (uint32_t i = 0; i < n; i++) {
            bool rare = i % 7 != 6;
            uint32_t at = pith_range_read(&r, 24);
            assert_true(rare ? at == (1 << 24) - 1 : at >= 1);
            pith_range_read_done(&r, rare ? (1 << 24) - 1 : 1, rare ? 1 : (1 << 24) - 1, 24);
        }
        assert_int_equal(pith_range_read_end(&r), PITH_OK);
    }
}

static void test_nothing(void **state)
{
    (void)state;
    pith_range_writer w;
    pith_range_reader r;
    size_t len = 1;
    pith_range_write_begin(&w, NULL, 0);
    assert_int_equal(pith_range_write_end(&w, &len), PITH_OK);
    assert_int_equal(len, 0);
    pith_range_read_begin(&r, NULL, 0);
    assert_int_equal(pith_range_read_end(&r), PITH_OK);
}

static void test_small_room(void **state)
{
    (void)state;
    uint8_t stream[16];
    for (size_t cap = 0; cap < 10; cap++) {
        pith_range_writer w;
        size_t len;
        pith_range_write_begin(&w, stream, cap);
        for (int i = 0; i < 10; i++) pith_range_write(&w, 0x55, 1, 8);
        assert_int_equal(pith_range_write_end(&w, &len), cap < 10 ? PITH_E_SPACE : PITH_OK);
    }
}

static void test_damage(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 3};
    for (int k = 0; k < 2000; k++) { /* any bytes: always a symbol, and the end of more bytes than were asked for is an error */
        uint8_t stream[64];
        pith_range_reader r;
        int32_t freq[4] = {1, 2, 3, (1 << 16) - 6};
        for (size_t i = 0; i < sizeof stream; i++) stream[i] = pith_rng_below(&rng, 3) ? 255 : (uint8_t)pith_rng_u32(&rng);
        pith_range_read_begin(&r, stream, sizeof stream);
        for (int i = 0; i < 20; i++) {
            uint32_t start;
            size_t s = pith_range_find(freq, pith_range_read(&r, 16), &start);
            assert_true(s < 4);
            pith_range_read_done(&r, start, (uint32_t)freq[s], 16);
        }
        assert_int_equal(pith_range_read_end(&r), PITH_E_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_carry), cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_small_room), cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
