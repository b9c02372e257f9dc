/* Libraries that are loaded when they are needed: there, missing, and without what is needed of them. */
#include "test.h"

#include "base/library.h"

static void test_library(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    struct {
        void *handle;
        double (*floor)(double);
        void *other;
    } l = {0};
    static const char *const names[] = {"floor", NULL}, *const wrong[] = {"floor", "no_such_function", NULL};
    assert_ok(ctx, pith_library_open(ctx, "file", "libm.so.6", "libc6", names, &l));
    assert_true(l.floor(2.5) == 2);
    pith_library_close(&l);
    assert_null(l.handle);
    pith_library_close(&l);
    assert_int_equal(pith_library_open(ctx, "file", "libm.so.6", "libc6", wrong, &l), PITH_E_UNSUPPORTED);
    assert_string_equal(pith_error(ctx), "file: libm.so.6 has no function no_such_function; is it another library of that name? apt-get install libc6");
    assert_null(l.handle);
    assert_int_equal(pith_library_open(ctx, "file", "libnowhere.so.7", "libnowhere7", names, &l), PITH_E_UNSUPPORTED);
    assert_string_equal(pith_error(ctx), "file: this takes libnowhere.so.7, which is not installed: apt-get install libnowhere7");
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_library)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
