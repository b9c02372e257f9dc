/* Folders and the cache. */
#include <unistd.h>

#include "files.h"

static char root[] = "/tmp/pith-folder-XXXXXX";

static int make_root(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : 1;
}

static int remove_root(void **state)
{
    (void)state;
    return rmdir(root);
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void test_make_and_remove(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    char *deep = pith_format(ctx, "%s/a/b/c", root), *top = pith_format(ctx, "%s/a", root), *file = pith_format(ctx, "%s/a/b/c/file", root);
    char *link = pith_format(ctx, "%s/a/link", root), *kept = pith_format(ctx, "%s/kept", root), *kept_file = pith_format(ctx, "%s/kept/file", root);
    assert_ok(ctx, pith_folder_make(ctx, deep));
    assert_ok(ctx, pith_folder_make(ctx, deep)); /* there already */
    test_write_text(file, "");
    assert_int_equal(pith_folder_make(ctx, file), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), "a file of this name is in the way"));
    /* what a link points to stays */
    assert_ok(ctx, pith_folder_make(ctx, kept));
    test_write_text(kept_file, "");
    assert_int_equal(symlink(kept, link), 0);
    assert_ok(ctx, pith_folder_remove(ctx, top));
    assert_false(is_there(top));
    assert_true(is_there(kept_file));
    assert_ok(ctx, pith_folder_remove(ctx, top)); /* gone already */
    assert_int_equal(pith_folder_remove(ctx, kept_file), PITH_E_IO);
    assert_ok(ctx, pith_folder_remove(ctx, kept));
    char *all[] = {deep, top, file, link, kept, kept_file};
    for (size_t i = 0; i < PITH_COUNT(all); i++) pith_free(ctx, all[i]);
    pith_ctx_free(ctx);
}

static void test_cache(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    char *path = NULL, *expected = pith_format(ctx, "%s/pith/beds", root), *home = pith_format(ctx, "%s/.cache/pith/beds", root);
    setenv("XDG_CACHE_HOME", root, 1);
    assert_ok(ctx, pith_cache_path(ctx, "beds", &path));
    assert_string_equal(path, expected);
    assert_false(is_there(path)); /* looking makes nothing */
    pith_free(ctx, path);
    setenv("XDG_CACHE_HOME", "relative", 1); /* ignored */
    setenv("HOME", root, 1);
    assert_ok(ctx, pith_cache_path(ctx, "beds", &path));
    assert_string_equal(path, home);
    pith_free(ctx, path);
    unsetenv("HOME");
    assert_int_equal(pith_cache_path(ctx, "beds", &path), PITH_E_IO);
    pith_free(ctx, expected);
    pith_free(ctx, home);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make_and_remove),
        cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
