/* Block types against the PyPI package gguf: names, numbers, sizes, every decoder and the plain encoders, bit for bit.
 * Needs PITH_TEST_PYTHON, an interpreter with gguf and numpy; skipped without. */
#include "../test.h"

#include "format/model_file.h"

static FILE *oracle;

typedef struct record {
    uint32_t kind, dtype;
    uint64_t n_values, n_bytes;
} record;

static bool same(float a, float b) { return memcmp(&a, &b, 4) == 0 || (a != a && b != b); }

static void read_all(void *p, size_t n) { assert_int_equal(fread(p, 1, n, oracle), n); }

static void check_name(const record *r)
{
    char name[33] = {0};
    read_all(name, 32);
    const pith_dtype_info *info = pith_dtype_get(r->dtype);
    if (!info) fail_msg("type %u (%s) is missing", r->dtype, name);
    assert_string_equal(info->name, name);
    assert_int_equal(info->block_len, r->n_values);
    /* The package says 40 for Q8_1, with f32 scale and sum; ggml itself has f16 in both since 2024 and asserts 36. */
    if (r->dtype != PITH_Q8_1) assert_int_equal(info->block_bytes, r->n_bytes);
}

static void check_decode(const record *r)
{
    uint8_t *blocks = malloc(r->n_bytes);
    float *expected = malloc(4 * r->n_values), *got = malloc(4 * r->n_values);
    assert_true(blocks && expected && got);
    read_all(blocks, r->n_bytes);
    read_all(expected, 4 * r->n_values);
    assert_int_equal(pith_blocks_to_f32((pith_dtype)r->dtype, blocks, r->n_values, got), PITH_OK);
    for (size_t i = 0; i < r->n_values; i++)
        if (!same(got[i], expected[i]))
            fail_msg("%s: value %zu is %a, the package says %a", pith_dtype_get(r->dtype)->name, i, (double)got[i], (double)expected[i]);
    free(blocks);
    free(expected);
    free(got);
}

static void check_encode(const record *r)
{
    uint8_t *expected = malloc(r->n_bytes), *got = malloc(r->n_bytes);
    float *values = malloc(4 * r->n_values);
    assert_true(expected && got && values);
    read_all(values, 4 * r->n_values);
    read_all(expected, r->n_bytes);
    assert_int_equal(pith_blocks_from_f32((pith_dtype)r->dtype, values, r->n_values, NULL, got), PITH_OK);
    for (size_t i = 0; i < r->n_bytes; i++)
        if (got[i] != expected[i]) fail_msg("%s: byte %zu is %u, the package says %u", pith_dtype_get(r->dtype)->name, i, got[i], expected[i]);
    free(expected);
    free(got);
    free(values);
}

static void agrees_with_gguf(void **state)
{
    (void)state;
    record r;
    size_t n[3] = {0};
    while (fread(&r, sizeof r, 1, oracle) == 1) {
        assert_in_range(r.kind, 0, 2);
        n[r.kind]++;
        if (r.kind == 0) check_name(&r);
        else if (r.kind == 1) check_decode(&r);
        else check_encode(&r);
    }
    assert_in_range(n[0], 30, 100); /* the script ran to its end */
    assert_in_range(n[1], 20, 100);
    assert_int_equal(n[2], 6);
}

int main(int argc, char **argv)
{
    const char *python = getenv("PITH_TEST_PYTHON");
    if (!python || argc < 2) {
        puts("PITH_TEST_PYTHON is not set: skipped");
        return 77;
    }
    char command[4096];
    snprintf(command, sizeof command, "'%s' '%s'", python, argv[1]);
    oracle = popen(command, "r");
    if (!oracle) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_gguf)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return pclose(oracle) != 0 || failed;
}
