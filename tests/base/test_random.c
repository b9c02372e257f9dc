/* Random numbers, hashing, processor detection. */
#include <math.h>

#include "test.h"

/* Known answers of Philox4x32-10, from the paper's code (D. E. Shaw Research, Random123, kat_vectors). */
static void test_philox(void **state)
{
    (void)state;
    static const struct { uint64_t seed, stream, index; uint32_t out[4]; } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < PITH_COUNT(known); i++) {
        uint32_t out[4];
        pith_philox(known[i].seed, known[i].stream, known[i].index, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void test_streams(void **state)
{
    (void)state;
    pith_rng a = {.seed = 5, .stream = 1}, b = {.seed = 5, .stream = 1, .index = 100}, c = {.seed = 5, .stream = 2};
    uint32_t at[200];
    for (int i = 0; i < 200; i++) at[i] = pith_rng_u32(&a);
    for (int i = 100; i < 200; i++) assert_int_equal(pith_rng_u32(&b), at[i]); /* a place can be gone to */
    int equal = 0;
    for (int i = 0; i < 200; i++) equal += pith_rng_u32(&c) == at[i];
    assert_true(equal < 3);
}

static void test_distributions(void **state)
{
    (void)state;
    enum { N = 200000 };
    pith_rng rng = {.seed = 42};
    double sum = 0, squares = 0, fourth = 0, low = 1, high = 0, uniform = 0;
    for (int i = 0; i < N; i++) {
        double u = pith_rng_uniform(&rng);
        low = fmin(low, u);
        high = fmax(high, u);
        uniform += u;
    }
    assert_true(low >= 0 && low < 1e-3 && high < 1 && high > 1 - 1e-3);
    assert_true(fabs(uniform / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    for (int i = 0; i < N; i++) {
        double x = pith_rng_normal(&rng);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
    }
    assert_true(fabs(sum / N) < 5 / sqrt(N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
    int counts[7] = {0};
    for (int i = 0; i < N; i++) {
        uint32_t k = pith_rng_below(&rng, 7);
        assert_true(k < 7);
        counts[k]++;
    }
    double chi = 0;
    for (int k = 0; k < 7; k++) chi += pow(counts[k] - N / 7.0, 2) / (N / 7.0);
    assert_true(chi < 30); /* 6 degrees of freedom: 1 in 20,000 */
    assert_int_equal(pith_rng_below(&rng, 1), 0);
}

static void test_hash(void **state)
{
    (void)state;
    /* XXH3_64bits of nothing and of "a", from the xxHash project's own tool (xxhsum -H3) */
    assert_true(pith_hash("", 0) == 0x2d06800538d394c2u);
    assert_true(pith_hash("a", 1) == 0xe6c632b61e964e1fu);
}

static void test_cpu(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_cpu best, cpu;
    assert_ok(ctx, pith_cpu_detect(ctx, NULL, &best));
    assert_false(best.limited);
    assert_true(best.n_cores >= 1 && best.name[0]);
    assert_ok(ctx, pith_cpu_detect(ctx, "scalar", &cpu));
    assert_int_equal(cpu.isa, PITH_ISA_SCALAR);
    assert_false(cpu.avx2 || cpu.avx512 || cpu.avx512_vnni || cpu.avx_vnni || cpu.neon);
    assert_int_equal(cpu.limited, best.isa != PITH_ISA_SCALAR);
    assert_int_equal(pith_cpu_detect(ctx, "sse9", &cpu), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "sse9"));
    for (int isa = PITH_ISA_NEON; isa <= PITH_ISA_AVX512; isa++) {
        pith_status status = pith_cpu_detect(ctx, pith_isa_name((pith_isa)isa), &cpu);
        bool present = isa == PITH_ISA_NEON ? best.neon : isa == PITH_ISA_AVX2 ? best.avx2 : best.avx512;
        assert_int_equal(status, present ? PITH_OK : PITH_E_UNSUPPORTED);
        if (present) assert_int_equal((int)cpu.isa, isa);
        if (present && isa == PITH_ISA_AVX2) assert_false(cpu.avx512 || cpu.avx512_vnni);
    }
    assert_ok(ctx, pith_cpu_detect(ctx, "", &cpu));
    assert_int_equal(cpu.isa, best.isa);
    pith_ctx_free(ctx);
    setenv("PITH_CPU", "scalar", 1);
    ctx = test_ctx(1);
    assert_int_equal(pith_ctx_cpu(ctx)->isa, PITH_ISA_SCALAR);
    pith_ctx_free(ctx);
    setenv("PITH_CPU", "quantum", 1);
    pith_ctx *none = NULL;
    assert_int_equal(pith_ctx_new(NULL, &none), PITH_E_ARGUMENT);
    assert_null(none);
    unsetenv("PITH_CPU");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox), cmocka_unit_test(test_streams), cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_hash),   cmocka_unit_test(test_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
