/* Contexts, errors, memory, arenas, log and progress. */
#include "test.h"

static void test_status_texts(void **state)
{
    (void)state;
    for (int s = 0; s <= PITH_E_INTERNAL; s++) assert_string_not_equal(pith_status_text((pith_status)s), "unknown status");
    assert_string_equal(pith_status_text((pith_status)999), "unknown status");
    assert_int_equal(PITH_E_CANCELLED, 11); /* numbers are pinned */
    assert_true(strlen(pith_version()) >= 5);
}

static void test_context_arguments(void **state)
{
    (void)state;
    pith_ctx *ctx = NULL;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = -1}, &ctx), PITH_E_ARGUMENT);
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 1025}, &ctx), PITH_E_ARGUMENT);
    assert_int_equal(pith_ctx_new(NULL, NULL), PITH_E_ARGUMENT);
    assert_null(ctx);
    assert_int_equal(pith_ctx_new(NULL, &ctx), PITH_OK);
    assert_string_equal(pith_error(ctx), "");
    assert_true(pith_n_threads(ctx) >= 1);
    pith_ctx_free(ctx);
    pith_ctx_free(NULL);
}

static void test_context_faults(void **state)
{
    (void)state;
    for (long fail_at = 1;; fail_at++) {
        test_faults faults = {.fail_at = fail_at};
        pith_ctx *ctx = NULL;
        pith_status status = pith_ctx_new(&(pith_options){.n_threads = 2, .realloc = test_faulty_realloc, .realloc_user = &faults}, &ctx);
        if (status == PITH_OK) {
            assert_true(fail_at > 3); /* context, arena, pool and its workers each had their turn */
            pith_ctx_free(ctx);
            assert_int_equal(faults.held, 0);
            return;
        }
        assert_int_equal(status, PITH_E_MEMORY);
        assert_null(ctx);
        assert_int_equal(faults.held, 0);
    }
}

static void test_errors(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    assert_int_equal(pith_fail(ctx, PITH_E_SHAPE, "%d rows of %d", 3, 5), PITH_E_SHAPE);
    assert_string_equal(pith_error(ctx), "3 rows of 5");
    assert_int_equal(pith_fail_at(ctx, PITH_E_FORMAT, "file %s", "x.gguf"), PITH_E_FORMAT);
    assert_string_equal(pith_error(ctx), "file x.gguf: 3 rows of 5");
    char longer[4000];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    pith_fail(ctx, PITH_E_IO, "%s", longer);
    pith_fail_at(ctx, PITH_E_IO, "%s", longer);
    assert_true(strlen(pith_error(ctx)) < 1024);
    pith_ctx_free(ctx);
}

static void test_memory(void **state)
{
    (void)state;
    pith_ctx *ctx = NULL;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 1, .memory_limit = 100000}, &ctx), PITH_OK);
    size_t before = pith_memory_used(ctx);
    uint8_t *p = pith_alloc(ctx, 1000);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % PITH_ALIGN, 0);
    for (int i = 0; i < 1000; i++) p[i] = (uint8_t)i;
    p = pith_resize(ctx, p, 50000);
    assert_non_null(p);
    for (int i = 0; i < 1000; i++) assert_int_equal(p[i], (uint8_t)i);
    assert_int_equal(pith_memory_used(ctx) - before, 50000);
    assert_true(pith_memory_peak(ctx) - before >= 51000);
    assert_null(pith_alloc(ctx, 60000));
    assert_non_null(strstr(pith_error(ctx), "memory limit"));
    assert_null(pith_resize(ctx, p, 60000));
    assert_int_equal(p[999], (uint8_t)999); /* the old block stays valid */
    assert_null(pith_alloc(ctx, SIZE_MAX));
    assert_null(pith_array(ctx, SIZE_MAX / 2, 3));
    assert_null(pith_calloc(ctx, (size_t)1 << 33, (size_t)1 << 33));
    assert_int_equal(pith_memory_used(ctx) - before, 50000);
    pith_free(ctx, p);
    pith_free(ctx, NULL);
    uint8_t *zeros = pith_calloc(ctx, 10, 10);
    for (int i = 0; i < 100; i++) assert_int_equal(zeros[i], 0);
    pith_free(ctx, zeros);
    void *nothing = pith_alloc(ctx, 0);
    assert_non_null(nothing);
    pith_free(ctx, nothing);
    char *text = pith_strndup(ctx, "abcdef", 3);
    assert_string_equal(text, "abc");
    pith_free(ctx, text);
    assert_int_equal(pith_memory_used(ctx), before);
    pith_ctx_free(ctx);
}

static void test_checked_sizes(void **state)
{
    (void)state;
    size_t n;
    assert_true(pith_mul(3, 5, &n) && n == 15);
    assert_false(pith_mul(SIZE_MAX, 2, &n));
    assert_true(pith_add(3, 5, &n) && n == 8);
    assert_false(pith_add(SIZE_MAX, 1, &n));
    uint8_t b[8];
    pith_put64(b, 0x0123456789ABCDEFu);
    assert_int_equal(b[0], 0xEF);
    assert_true(pith_le64(b) == 0x0123456789ABCDEFu);
    assert_int_equal(pith_le32(b), 0x89ABCDEF);
    assert_int_equal(pith_le16(b), 0xCDEF);
    pith_put16(b, 0x8001);
    assert_int_equal(pith_le16(b), 0x8001);
}

static void test_arena(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t before = pith_memory_used(ctx);
    pith_arena *arena = pith_arena_new(ctx);
    assert_non_null(pith_arena_take(arena, 0));
    pith_mark mark = pith_arena_mark(arena);
    uint8_t *first = pith_arena_take(arena, 100);
    assert_int_equal((uintptr_t)first % PITH_ALIGN, 0);
    uint64_t sum = 0;
    for (int i = 0; i < 200; i++) { /* several blocks, each piece whole and its own */
        uint32_t *piece = pith_arena_take(arena, 4000);
        for (int k = 0; k < 1000; k++) piece[k] = (uint32_t)i;
        sum += piece[999];
    }
    assert_int_equal(sum, 199 * 200 / 2);
    uint8_t *big = pith_arena_take(arena, (size_t)3 << 20);
    assert_non_null(big);
    big[((size_t)3 << 20) - 1] = 1;
    size_t held = pith_memory_used(ctx);
    pith_arena_reset(arena, mark);
    assert_ptr_equal(pith_arena_take(arena, 100), first); /* memory is used again … */
    for (int i = 0; i < 200; i++) assert_non_null(pith_arena_take(arena, 4000));
    assert_non_null(pith_arena_take(arena, (size_t)3 << 20));
    assert_int_equal(pith_memory_used(ctx), held);        /* … and no more of it taken */
    assert_null(pith_arena_take(arena, SIZE_MAX - 10));
    assert_null(pith_arena_take(arena, SIZE_MAX / 2));
    pith_arena_free(arena);
    pith_arena_free(NULL);
    assert_int_equal(pith_memory_used(ctx), before);
    pith_ctx_free(ctx);
}

static pith_status take_twice(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_arena *arena = pith_arena_new(ctx);
    bool done = arena && pith_arena_take(arena, 10) && pith_arena_take(arena, (size_t)1 << 20);
    pith_arena_free(arena);
    return done ? PITH_OK : PITH_E_MEMORY;
}

static void test_arena_faults(void **state)
{
    (void)state;
    assert_int_equal(test_every_fault(take_twice, NULL), 5); /* arena, then two blocks of two allocations each */
}

/* ---- log and progress ------------------------------------------------------------------------- */

typedef struct heard {
    int n_lines, n_progress;
    char last[128];
    uint64_t done, total;
    double left_s;
    bool stop;
} heard;

static void hear_log(void *user, pith_log_level level, const char *line)
{
    heard *h = user;
    (void)level;
    h->n_lines++;
    snprintf(h->last, sizeof h->last, "%s", line);
}

static void hear_progress(void *user, const char *what, uint64_t done, uint64_t total, double left_s)
{
    heard *h = user;
    h->n_progress++;
    snprintf(h->last, sizeof h->last, "%s", what);
    h->done = done;
    h->total = total;
    h->left_s = left_s;
}

static bool hear_cancelled(void *user) { return ((heard *)user)->stop; }

static void test_log_and_progress(void **state)
{
    (void)state;
    heard h = {0};
    pith_ctx *ctx = NULL;
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_INFO, .log = hear_log, .progress = hear_progress, .cancelled = hear_cancelled, .user = &h};
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    pith_log(ctx, PITH_LOG_DEBUG, "hidden");
    assert_int_equal(h.n_lines, 0);
    pith_log(ctx, PITH_LOG_WARN, "row %d", 7);
    assert_int_equal(h.n_lines, 1);
    assert_string_equal(h.last, "row 7");
    for (uint64_t i = 0; i <= 100000; i++) assert_int_equal(pith_progress(ctx, "work", i, 100000), PITH_OK);
    assert_in_range(h.n_progress, 2, 100); /* first, last, and at most ten a second between */
    assert_int_equal(h.done, 100000);
    assert_int_equal(h.total, 100000);
    int n = h.n_progress;
    pith_progress(ctx, "other work", 0, 10); /* new work is told at once */
    assert_int_equal(h.n_progress, n + 1);
    assert_true(h.left_s < 0);
    h.stop = true;
    assert_int_equal(pith_progress(ctx, "other work", 1, 10), PITH_E_CANCELLED);
    assert_non_null(strstr(pith_error(ctx), "other work"));
    double t = pith_now_s();
    assert_true(pith_now_s() >= t);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_texts), cmocka_unit_test(test_context_arguments), cmocka_unit_test(test_context_faults),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_memory),            cmocka_unit_test(test_checked_sizes),
        cmocka_unit_test(test_arena),        cmocka_unit_test(test_arena_faults),      cmocka_unit_test(test_log_and_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
