/* The table of files that are stored to the bit: what is written is read again, every chunk is found, and a table that lies is
 * refused. */
#include "files.h"
#include "format/bytes.h"
#include "format/stored.h"

#define MAX_NAME 4096

typedef struct table {
    pith_ctx *ctx;
    pith_arena *arena;
    writer w;
    pith_stored s;
} table;

static void begin(table *t)
{
    *t = (table){.ctx = test_ctx(1)};
    t->w.ctx = t->ctx;
    t->arena = pith_arena_new(t->ctx);
    assert_non_null(t->arena);
}

static void end(table *t)
{
    pith_free(t->ctx, t->w.data);
    pith_arena_free(t->arena);
    pith_ctx_free(t->ctx);
}

/* The first `len` bytes of what was written, as a table. */
static pith_status read_table(table *t, size_t len)
{
    uint8_t *exact = test_exact_copy(t->w.data, len);
    cursor c = {exact, exact + len, false};
    t->s = (pith_stored){0};
    pith_status status = pith_stored_get(t->ctx, t->arena, &c, &t->s);
    free(exact);
    return status;
}

static void assert_refused(table *t, const char *what, const char *part)
{
    pith_status status = read_table(t, t->w.len);
    if (status != PITH_E_CORRUPT) fail_msg("%s: %s", what, pith_status_text(status));
    if (!strstr(pith_error(t->ctx), part)) fail_msg("%s: %s", what, pith_error(t->ctx));
}

/* ---- what is right ---------------------------------------------------------------------------- */

static pith_stretch mixed[] = {
    {.len = 100, .chunk = 100},
    {.len = 4 * 1000 * 7 + 8, .dtype = 1 + PITH_F32, .row = 1000, .chunk = 8000},
    {.len = 2 * 300, .dtype = 1 + PITH_BF16, .row = 1, .chunk = 2},
    {.len = 34 * 77, .dtype = 1 + PITH_Q8_0, .chunk = 34 * 10},
    {.len = 1, .chunk = PITH_CHUNK_MAX},
};
static pith_stretch half[] = {{.len = 2 * 4096 * 3, .dtype = 1 + PITH_F16, .row = 4096, .chunk = 2 * 4096}};
static pith_stretch large[] = {{.len = 5, .chunk = 2}, {.len = ((uint64_t)1 << 40) + 1, .chunk = PITH_CHUNK_MAX}};
static pith_stored_file files[] = {
    {.name = "a/a"}, {.name = "a/b/.c", .n_stretches = PITH_COUNT(half), .stretches = half}, {.name = "a/nothing"}, {.name = "a/nothing more"},
    {.name = "large", .n_stretches = PITH_COUNT(large), .stretches = large}, {.name = "mixed", .n_stretches = PITH_COUNT(mixed), .stretches = mixed}, {.name = "z"},
};

static void assert_chunks_of(const pith_stored *s, const pith_stored_file *f, const pith_stretch *t, uint64_t *chunk)
{
    for (uint64_t at = t->at; at < t->at + t->len; ++*chunk) {
        const pith_stored_file *file;
        const pith_stretch *stretch;
        uint64_t where, len = pith_stored_chunk(s, *chunk, &file, &stretch, &where);
        assert_ptr_equal(file, f);
        assert_ptr_equal(stretch, t);
        assert_int_equal(where, at);
        assert_int_equal(len, PITH_MIN(t->chunk, t->at + t->len - at));
        at += len;
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    table t;
    uint64_t chunk = 0;
    begin(&t);
    pith_stored_put(&t.w, &(pith_stored){.n_files = PITH_COUNT(files), .files = files});
    assert_ok(t.ctx, read_table(&t, t.w.len));
    assert_int_equal(t.s.n_files, PITH_COUNT(files));
    for (size_t i = 0; i < t.s.n_files; i++) {
        const pith_stored_file *f = &t.s.files[i];
        uint64_t at = 0;
        assert_string_equal(f->name, files[i].name);
        assert_int_equal(f->n_stretches, files[i].n_stretches);
        for (size_t k = 0; k < f->n_stretches; k++) {
            const pith_stretch *x = &f->stretches[k], *y = &files[i].stretches[k];
            assert_true(x->len == y->len && x->dtype == y->dtype && x->row == y->row && x->chunk == y->chunk);
            assert_int_equal(x->at, at);
            assert_int_equal(x->first_chunk, chunk);
            assert_chunks_of(&t.s, f, x, &chunk);
            at += x->len;
        }
        assert_int_equal(f->len, at);
    }
    assert_int_equal(t.s.n_chunks, chunk);
    end(&t);
}

static void test_names(void **state)
{
    (void)state;
    static char longest[MAX_NAME + 1], nested[MAX_NAME + 1];
    memset(longest, 'n', sizeof longest);
    for (size_t i = 0; i < sizeof nested; i++) nested[i] = "d/"[i % 2];
    nested[MAX_NAME - 1] = 'd';
    const struct {
        const char *name;
        size_t len;             /* 0: to its end */
        bool safe;
    } cases[] = {
        {"x", 0, true}, {".hidden", 0, true}, {"...", 0, true}, {"..x/y..", 0, true}, {"a b\\\xff", 0, true}, {"a/.b/c", 0, true}, {longest, MAX_NAME, true}, {nested, MAX_NAME, true},
        {"", 0, false}, {".", 0, false}, {"..", 0, false}, {"/", 0, false}, {"/x", 0, false}, {"x/", 0, false}, {"a//b", 0, false}, {"//x", 0, false}, {"./x", 0, false}, {"x/.", 0, false},
        {"a/./b", 0, false}, {"../x", 0, false}, {"x/..", 0, false}, {"a/../b", 0, false}, {"a\0b", 3, false}, {"\0", 1, false}, {"a/..\0", 5, false}, {"a\nb", 0, false}, {"\x1b[31m", 0, false}, {"x\x7f", 0, false}, {longest, MAX_NAME + 1, false},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        const size_t len = cases[i].len ? cases[i].len : strlen(cases[i].name);
        table t;
        begin(&t);
        put_varint(&t.w, 2);
        put_string(&t.w, "!", 1); /* which comes before all of these */
        put_varint(&t.w, 0);
        put_string(&t.w, cases[i].name, len);
        put_varint(&t.w, 0);
        if (cases[i].safe) {
            assert_ok(t.ctx, read_table(&t, t.w.len));
            assert_int_equal(strlen(t.s.files[1].name), len);
            assert_memory_equal(t.s.files[1].name, cases[i].name, len);
        } else {
            assert_refused(&t, cases[i].name, "file 1 of the table has a name that cannot be one");
        }
        end(&t);
    }
}

/* Each name once, in order. */
static void test_order(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"b", "a"}, {"a", "a"}, {"a/b", "a"}, {"a\xff", "a"}};
    for (size_t i = 0; i < PITH_COUNT(pairs); i++) {
        table t;
        begin(&t);
        put_varint(&t.w, 2);
        for (size_t k = 0; k < 2; k++) {
            put_string(&t.w, pairs[i][k], strlen(pairs[i][k]));
            put_varint(&t.w, 0);
        }
        assert_refused(&t, pairs[i][0], "not in the order of their names");
        end(&t);
    }
}

/* ---- what is wrong ---------------------------------------------------------------------------- */

typedef struct fields {
    uint64_t len, dtype, row, chunk;
} fields;

static void put_stretch(writer *w, const fields *f)
{
    put_varint(w, f->len);
    put_varint(w, f->dtype);
    put_varint(w, f->row);
    put_varint(w, f->chunk);
}

static void test_stretches(void **state)
{
    (void)state;
    const uint64_t most = PITH_CHUNK_MAX, all = UINT32_MAX; /* packets are numbered in 32 bits */
    const struct {
        const char *what;
        fields stretch[2];      /* of two files; len 0: one is enough */
        bool fine;
    } cases[] = {
        {"bytes", {{1, 0, 0, 1}}, true},
        {"the largest chunk", {{most + 1, 0, 0, most}}, true},
        {"the longest row", {{8, 1 + PITH_F16, 4096, 8192}}, true},
        {"a part of a row", {{12, 1 + PITH_F32, 64, 256}}, true},
        {"blocks", {{68, 1 + PITH_Q8_0, 0, 34}}, true},
        {"as many chunks as can be numbered", {{all, 0, 0, 1}}, true},
        {"and in two files", {{1000, 0, 0, 1}, {all - 1000, 0, 0, 1}}, true},
        {"no bytes", {{0, 0, 0, 1}}, false},
        {"no chunk", {{1, 0, 0, 0}}, false},
        {"too large a chunk", {{1, 0, 0, most + 1}}, false},
        {"a chunk of more than 32 bits", {{1, 0, 0, (1ull << 32) + 1}}, false},
        {"an unknown type", {{4, 1 + 5, 0, 4}}, false},
        {"a type beyond all", {{4, 1 + 1000, 0, 4}}, false},
        {"a type of 32 bits", {{4, UINT32_MAX, 0, 4}}, false},
        {"a type of more than 32 bits", {{4, (1ull << 32) + 1 + PITH_F32, 1, 4}}, false},
        {"too long a row", {{32768, 1 + PITH_F32, 4097, 4097 * 4}}, false},
        {"a row of more than 32 bits", {{4, 1 + PITH_F32, (1ull << 32) + 1, 4}}, false},
        {"floats without a row", {{4, 1 + PITH_F32, 0, 4}}, false},
        {"blocks in rows", {{68, 1 + PITH_Q8_0, 2, 68}}, false},
        {"bytes in rows", {{4, 0, 2, 4}}, false},
        {"a part of a value", {{6, 1 + PITH_F32, 1, 4}}, false},
        {"a part of a block", {{33, 1 + PITH_Q8_0, 0, 34}}, false},
        {"chunks with a part of a value", {{8, 1 + PITH_F32, 1, 6}}, false},
        {"chunks with a part of a row", {{512, 1 + PITH_F32, 64, 260}}, false},
        {"chunks with a part of a block", {{68, 1 + PITH_Q8_0, 0, 35}}, false},
        {"more chunks than can be numbered", {{all + 1, 0, 0, 1}}, false},
        {"and in two files", {{1000, 0, 0, 1}, {all - 999, 0, 0, 1}}, false},
        {"a length near 2^64", {{UINT64_MAX, 0, 0, 2}}, false},
        {"and large chunks", {{UINT64_MAX, 0, 0, most}}, false},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        const size_t n = cases[i].stretch[1].len ? 2 : 1;
        table t;
        begin(&t);
        put_varint(&t.w, n);
        for (size_t k = 0; k < n; k++) {
            put_string(&t.w, "the name2", 8 + k);
            put_varint(&t.w, 1);
            put_stretch(&t.w, &cases[i].stretch[k]);
        }
        if (!cases[i].fine) {
            assert_refused(&t, cases[i].what, "damaged at the name");
        } else {
            pith_status status = read_table(&t, t.w.len);
            if (status != PITH_OK) fail_msg("%s: %s", cases[i].what, pith_error(t.ctx));
        }
        end(&t);
    }
}

/* Within one file their sum counts. */
static void test_lengths_that_overflow(void **state)
{
    (void)state;
    table t;
    begin(&t);
    put_varint(&t.w, 1);
    put_string(&t.w, "x", 1);
    put_varint(&t.w, 2);
    put_stretch(&t.w, &(fields){UINT64_MAX - PITH_CHUNK_MAX, 0, 0, PITH_CHUNK_MAX});
    put_stretch(&t.w, &(fields){PITH_CHUNK_MAX + 1, 0, 0, PITH_CHUNK_MAX});
    assert_refused(&t, "two", "damaged at x");
    end(&t);
}

static void test_counts(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint64_t n_files, name_len, n_stretches;
        bool fine;
    } cases[] = {
        {"right", 1, 4, 1, true}, {"no file", 0, 4, 1, false}, {"more files than are there", 2, 4, 1, false}, {"than fit", 1000, 4, 1, false}, {"2^64 - 1 files", UINT64_MAX, 4, 1, false},
        {"a longer name", 1, 100, 1, false}, {"a name of 2^64 - 1 bytes", 1, UINT64_MAX, 1, false}, {"more stretches than are there", 1, 4, 2, false},
        {"2^62 stretches", 1, 4, 1ull << 62, false}, {"none, and bytes behind", 1, 4, 0, false},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        table t;
        begin(&t);
        put_varint(&t.w, cases[i].n_files);
        put_varint(&t.w, cases[i].name_len);
        put_bytes(&t.w, "name", 4);
        put_varint(&t.w, cases[i].n_stretches);
        put_stretch(&t.w, &(fields){7, 0, 0, 7});
        if (cases[i].fine) assert_ok(t.ctx, read_table(&t, t.w.len));
        else assert_refused(&t, cases[i].what, "table");
        end(&t);
    }
}

static void test_cut_and_longer(void **state)
{
    (void)state;
    table t;
    begin(&t);
    pith_stored_put(&t.w, &(pith_stored){.n_files = PITH_COUNT(files), .files = files});
    const size_t len = t.w.len;
    for (size_t n = 0; n < len; n++)
        if (read_table(&t, n) != PITH_E_CORRUPT) fail_msg("cut to %zu of %zu bytes", n, len);
    put_u8(&t.w, 0);
    assert_refused(&t, "one byte more", "the table of files is damaged");
    end(&t);
}

/* A number has at most 64 bits. */
static void test_endless_number(void **state)
{
    (void)state;
    table t;
    begin(&t);
    for (int i = 0; i < 20; i++) put_u8(&t.w, 0x80);
    assert_refused(&t, "a count without an end", "the table of files is damaged");
    end(&t);
}

static pith_status put_and_get(pith_ctx *ctx, const void *user)
{
    (void)user;
    writer w = {.ctx = ctx};
    pith_stored s;
    pith_arena *arena = pith_arena_new(ctx);
    pith_stored_put(&w, &(pith_stored){.n_files = PITH_COUNT(files), .files = files});
    pith_status status = arena && !w.failed ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) status = pith_stored_get(ctx, arena, &(cursor){w.data, w.data + w.len, false}, &s);
    pith_free(ctx, w.data);
    pith_arena_free(arena);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_in_range(test_every_fault(put_and_get, NULL), 2, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_names), cmocka_unit_test(test_order), cmocka_unit_test(test_stretches), cmocka_unit_test(test_lengths_that_overflow),
        cmocka_unit_test(test_counts), cmocka_unit_test(test_cut_and_longer), cmocka_unit_test(test_endless_number), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
