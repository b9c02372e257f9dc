/* Files and folders of tests: whole ones, and a failure is the test's. */
#ifndef PITH_TEST_FILES_H
#define PITH_TEST_FILES_H

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

static inline void test_write_file(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("cannot write %s", path);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static inline void test_write_text(const char *path, const char *text) { test_write_file(path, text, strlen(text)); }

static inline size_t test_file_bytes(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) fail_msg("%s is not there", path);
    return (size_t)st.st_size;
}

/* All of it, and a NUL behind; free() it.  `len` may be NULL. */
static inline void *test_read_file(const char *path, size_t *len)
{
    size_t n = test_file_bytes(path);
    char *bytes = malloc(n + 1);
    FILE *f = fopen(path, "rb");
    assert_true(bytes && f);
    assert_int_equal(fread(bytes, 1, n, f), n);
    fclose(f);
    bytes[n] = 0;
    if (len) *len = n;
    return bytes;
}

/* With all that is in it, as a test's last step: 0, or 1 if something stayed. */
static inline int test_remove_folder(const char *path)
{
    pith_ctx *ctx = test_ctx(1);
    pith_status status = pith_folder_remove(ctx, path);
    if (status != PITH_OK) fprintf(stderr, "%s\n", pith_error(ctx));
    pith_ctx_free(ctx);
    return status != PITH_OK;
}

/* A folder of the test program's own: set-up and tear-down of its group, or the first and last step of them. */
static char test_folder[] = "/tmp/pith-test-XXXXXX";
static inline int test_make_folder(void **state)
{
    (void)state;
    return mkdtemp(test_folder) ? 0 : 1;
}
static inline int test_drop_folder(void **state)
{
    (void)state;
    return test_remove_folder(test_folder);
}
/* A name in it; the last four are good. */
static inline const char *test_path(const char *name)
{
    static char path[4][128];
    static int at;
    char *p = path[at++ % 4];
    assert_true(snprintf(p, sizeof path[0], "%s/%s", test_folder, name) < (int)sizeof path[0]);
    return p;
}

/* A copy that ends where its memory ends, so that a sanitizer sees reads beyond it; free() it. */
static inline void *test_exact_copy(const void *bytes, size_t len)
{
    void *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return copy;
}

#endif
