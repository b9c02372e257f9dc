/* Files: mapped input; output that appears whole or not at all, whatever happens on the way. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"

static char folder[64], target[128];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/pith-test-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(target, sizeof target, "%s/file", folder);
    return 0;
}

static int n_files(void)
{
    char command[128], text[16] = "";
    snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    pclose(f);
    return atoi(text);
}

static int tear_down(void **state)
{
    (void)state;
    return test_remove_folder(folder);
}

static void assert_file(const char *path, const char *text)
{
    char *got = test_read_file(path, NULL);
    assert_string_equal(got, text);
    free(got);
}

static void test_map(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_map map;
    assert_int_equal(pith_map_open(ctx, target, &map), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), target));
    assert_int_equal(pith_map_open(ctx, folder, &map), PITH_E_IO);
    test_write_text(target, "");
    assert_ok(ctx, pith_map_open(ctx, target, &map));
    assert_null(map.data);
    assert_int_equal(map.len, 0);
    pith_map_close(ctx, &map);
    test_write_text(target, "hello");
    assert_ok(ctx, pith_map_open(ctx, target, &map));
    assert_int_equal(map.len, 5);
    assert_memory_equal(map.data, "hello", 5);
    assert_string_equal(map.path, target);
    assert_false(map.owned_memory);
    pith_map_close(ctx, &map);
    pith_ctx_free(ctx);
}

/* Forgotten pages are the file's to the byte; whole pages inside the range go, and no others. */
static void test_map_forget(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), len = 6 * page + 100;
    FILE *f = fopen(target, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < len; i++) fputc((int)(i / page * 31 + i % 251) & 255, f);
    fclose(f);
    pith_map map;
    assert_ok(ctx, pith_map_open(ctx, target, &map));
    /* pages of a private map that were written to come back as the file has them: that shows which were dropped */
    assert_int_equal(mprotect((void *)(uintptr_t)map.data, len, PROT_READ | PROT_WRITE), 0);
    uint8_t *data = (uint8_t *)(uintptr_t)map.data;
    for (size_t p = 0; p < 7; p++) data[p * page + 50] = 255;
    pith_map_forget(&map, map.data + page - 10, 3 * page);              /* pages 1 and 2 whole */
    pith_map_forget(&map, map.data + 4 * page + 1, page);               /* none whole */
    pith_map_forget(&map, map.data + 5 * page, 2 * page);               /* beyond the end */
    pith_map_forget(&map, map.data - page, 2 * page);                   /* before the beginning */
    pith_map_forget(&map, map.data + page, SIZE_MAX);
    for (size_t p = 0; p < 7; p++) assert_int_equal(data[p * page + 50], p == 1 || p == 2 ? (p * 31 + (p * page + 50) % 251) & 255 : 255);
    pith_map_close(ctx, &map);
    pith_ctx_free(ctx);
}

/* A pipe has no size: it is read to its end. */
static void test_map_pipe(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    assert_int_equal(mkfifo(target, 0600), 0);
    enum { LEN = 3000000 };
    pid_t child = fork();
    if (child == 0) {
        int fd = open(target, O_WRONLY);
        uint8_t *data = malloc(LEN);
        for (int i = 0; data && i < LEN; i++) data[i] = (uint8_t)(i * 7);
        for (ssize_t done = 0, n; data && done < LEN && (n = write(fd, data + done, (size_t)(LEN - done))) > 0;) done += n;
        _exit(0);
    }
    pith_map map;
    assert_ok(ctx, pith_map_open(ctx, target, &map));
    assert_int_equal(map.len, LEN);
    assert_true(map.owned_memory);
    pith_map_forget(&map, map.data, map.len); /* it is the only copy: nothing is forgotten */
    for (int i = 0; i < LEN; i += 997) assert_int_equal(map.data[i], (uint8_t)(i * 7));
    pith_map_close(ctx, &map);
    waitpid(child, NULL, 0);
    pith_ctx_free(ctx);
}

static void test_out(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_out *out = NULL;
    test_write_text(target, "old");
    assert_int_equal(chmod(target, 0640), 0);
    assert_ok(ctx, pith_out_open(ctx, target, &out));
    assert_ok(ctx, pith_out_write(out, "0123456789", 10));
    assert_file(target, "old"); /* until it is closed */
    assert_ok(ctx, pith_out_pad(out, 16));
    assert_int_equal(pith_out_tell(out), 16);
    assert_ok(ctx, pith_out_pad(out, 16));
    assert_int_equal(pith_out_tell(out), 16);
    assert_ok(ctx, pith_out_patch(out, 2, "ab", 2));
    assert_int_equal(pith_out_patch(out, 15, "ab", 2), PITH_E_INTERNAL);
    assert_ok(ctx, pith_out_write(out, "end", 3));
    assert_ok(ctx, pith_out_close(out));
    pith_map map;
    assert_ok(ctx, pith_map_open(ctx, target, &map));
    assert_int_equal(map.len, 19);
    assert_memory_equal(map.data, "01ab456789\0\0\0\0\0\0end", 19);
    pith_map_close(ctx, &map);
    struct stat st;
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640); /* as the file it replaced */
    assert_int_equal(n_files(), 1);
    pith_ctx_free(ctx);
}

static void test_out_big(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { LEN = 1000003 };
    uint8_t *data = malloc(LEN);
    assert_non_null(data);
    for (size_t i = 0; i < LEN; i++) data[i] = (uint8_t)(i ^ i >> 8);
    pith_out *out = NULL;
    assert_ok(ctx, pith_out_open(ctx, target, &out));
    pith_rng rng = {.seed = 3};
    for (size_t done = 0; done < LEN;) { /* pieces below and above the buffer's size */
        size_t n = pith_rng_below(&rng, pith_rng_below(&rng, 2) ? 600000 : 50);
        n = PITH_MIN(n, LEN - done);
        assert_ok(ctx, pith_out_write(out, data + done, n));
        done += n;
    }
    assert_ok(ctx, pith_out_close(out));
    pith_map map;
    assert_ok(ctx, pith_map_open(ctx, target, &map));
    assert_int_equal(map.len, LEN);
    assert_memory_equal(map.data, data, LEN);
    pith_map_close(ctx, &map);
    free(data);
    pith_ctx_free(ctx);
}

static void test_discard(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_out *out = NULL;
    test_write_text(target, "old");
    assert_ok(ctx, pith_out_open(ctx, target, &out));
    assert_ok(ctx, pith_out_write(out, "new", 3));
    pith_out_discard(out);
    pith_out_discard(NULL);
    assert_file(target, "old");
    assert_int_equal(n_files(), 1);
    assert_int_equal(pith_out_open(ctx, folder, &out), PITH_E_IO);
    char path[256];
    snprintf(path, sizeof path, "%s/no/such/folder", folder);
    assert_int_equal(pith_out_open(ctx, path, &out), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), path));
    pith_ctx_free(ctx);
}

/* A link stays a link, and a device a device. */
static void test_special_targets(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_out *out = NULL;
    char link_path[256];
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    test_write_text(target, "old");
    assert_int_equal(symlink(target, link_path), 0);
    assert_ok(ctx, pith_out_open(ctx, link_path, &out));
    assert_ok(ctx, pith_out_write(out, "new", 3));
    assert_ok(ctx, pith_out_close(out));
    struct stat st;
    assert_int_equal(lstat(link_path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_file(target, "new");
    assert_ok(ctx, pith_out_open(ctx, "/dev/null", &out));
    assert_ok(ctx, pith_out_write(out, "new", 3));
    assert_int_equal(pith_out_patch(out, 0, "x", 1), PITH_E_IO);
    assert_ok(ctx, pith_out_close(out));
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    pith_ctx_free(ctx);
}

static void test_disk_full(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_out *out = NULL;
    /* a device that is always full */
    assert_ok(ctx, pith_out_open(ctx, "/dev/full", &out));
    assert_ok(ctx, pith_out_write(out, "new", 3));
    assert_int_equal(pith_out_close(out), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), strerror(ENOSPC)));
    /* a file that may not grow: the old one stays, the temporary goes */
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    test_write_text(target, "old");
    signal(SIGXFSZ, SIG_IGN);
    static const uint8_t data[400000];
    for (int late = 0; late < 2; late++) { /* the error comes at a write, or only when closing */
        assert_ok(ctx, pith_out_open(ctx, target, &out));
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        pith_status written = pith_out_write(out, data, late ? 200000 : sizeof data);
        pith_status closed = pith_out_close(out);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(written, late ? PITH_OK : PITH_E_IO);
        assert_int_equal(closed, PITH_E_IO);
        assert_non_null(strstr(pith_error(ctx), target));
        assert_file(target, "old");
        assert_int_equal(n_files(), 1);
    }
    signal(SIGXFSZ, SIG_DFL);
    pith_ctx_free(ctx);
}

static void test_no_permission(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    test_write_text(target, "old");
    assert_int_equal(chmod(folder, 0555), 0);
    bool root = geteuid() == 0; /* to whom permissions do not apply */
    if (root) assert_int_equal(seteuid(65534), 0);
    pith_out *out = NULL;
    pith_status status = pith_out_open(ctx, target, &out);
    if (root) assert_int_equal(seteuid(0), 0);
    chmod(folder, 0755);
    assert_int_equal(status, PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), strerror(EACCES)));
    assert_file(target, "old");
    pith_ctx_free(ctx);
}

static void on_term(int number)
{
    (void)number;
    pith_out_discard_all();
    _exit(0);
}

/* A child is in the middle of writing when the signal comes. */
static void stop_writer(int number)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    test_write_text(target, "old");
    pid_t child = fork();
    if (child == 0) {
        pith_ctx *ctx = NULL;
        pith_out *out = NULL;
        signal(SIGTERM, on_term);
        static const uint8_t data[600000];
        if (pith_ctx_new(&(pith_options){.n_threads = 1}, &ctx) != PITH_OK || pith_out_open(ctx, target, &out) != PITH_OK) _exit(1);
        if (pith_out_write(out, data, sizeof data) != PITH_OK || write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_file(target, "old");
    assert_int_equal(kill(child, number), 0);
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_file(target, "old");
    assert_int_equal(n_files(), number == SIGKILL ? 2 : 1); /* nobody can clean up after SIGKILL */
    close(ready[0]);
    close(ready[1]);
}

static void test_killed(void **state) { (void)state; stop_writer(SIGKILL); }
static void test_terminated(void **state) { (void)state; stop_writer(SIGTERM); }

/* `target` is there, with "old": an error leaves it so, and no other file beside it. */
static pith_status map_and_replace(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_map map;
    pith_out *out;
    pith_status status = pith_map_open(ctx, target, &map);
    if (status == PITH_OK) {
        status = pith_out_open(ctx, target, &out);
        if (status == PITH_OK) status = pith_out_close(out);
        pith_map_close(ctx, &map);
    }
    assert_int_equal(n_files(), 1);
    if (status != PITH_OK) assert_file(target, "old");
    return status;
}

static void test_faults_of_files(void **state)
{
    (void)state;
    test_write_text(target, "old");
    assert_true(test_every_fault(map_and_replace, NULL) >= 4);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_map),       TEST(test_map_pipe), TEST(test_map_forget),      TEST(test_out),    TEST(test_out_big),    TEST(test_discard), TEST(test_special_targets),
        TEST(test_disk_full), TEST(test_no_permission), TEST(test_killed), TEST(test_terminated), TEST(test_faults_of_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
