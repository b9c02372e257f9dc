/* Checkpoints: a run that was stopped in any way ends with the same bytes; damage and full disks are told. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "task.h"

extern char **environ;

enum { N_STEPS = 40 };

/* Train with a checkpoint at `path` (or none), until n_losses passes were made (0: to the end). */
static pith_status train(pith_optimizer_kind kind, bool best, const char *path, uint64_t cancel_after, pith_train_result *result, uint64_t *hash)
{
    task t;
    task_open(&t, 1);
    t.cancel_after = cancel_after;
    pith_train_options o = task_options(&t, N_STEPS, path);
    o.n_parts = 2;
    o.restore_best = best;
    pith_train_role role = task_role(kind);
    pith_trainer *trainer;
    assert_ok(t.ctx, pith_trainer_new(t.tape, &o, &role, 1, &trainer));
    task_keep(&t, trainer);
    pith_status status = pith_trainer_run(trainer, result);
    *hash = task_hash(&t);
    const pith_train_history *h = pith_trainer_history(trainer);
    for (size_t i = 0; i < h->n_points; i++) assert_true(i == 0 || h->points[i].step > h->points[i - 1].step);
    if (status == PITH_OK) assert_int_equal(h->n_points, 8 + 5 - 1); /* 5, 10 … 40 and 7, 14 … 35, once each */
    pith_trainer_free(trainer);
    task_close(&t);
    return status;
}

/* Stopped by the user after each possible number of steps. */
static void test_cancelled(void **state)
{
    (void)state;
    for (pith_optimizer_kind kind = PITH_SGD; kind <= PITH_MUON; kind++)
        for (int best = 0; best < 2; best++) {
            uint64_t whole, hash;
            pith_train_result r;
            assert_int_equal(train(kind, best, NULL, 0, &r, &whole), PITH_OK);
            for (uint64_t after = 2; after < 2 * N_STEPS; after += 26) {
                const char *path = test_path("cancelled");
                unlink(path);
                assert_int_equal(train(kind, best, path, after, &r, &hash), PITH_E_CANCELLED);
                assert_true(hash != whole);
                assert_int_equal(train(kind, best, path, 0, &r, &hash), PITH_OK);
                assert_int_equal(r.resumed_from, after / 2);
                assert_int_equal(r.n_steps, N_STEPS);
                assert_true(hash == whole);
                /* once more: all is done already */
                assert_int_equal(train(kind, best, path, 0, &r, &hash), PITH_OK);
                assert_true(r.resumed_from == N_STEPS && hash == whole);
            }
        }
}

/* ---- killed ----------------------------------------------------------------------------------- */

enum { KILL_STEPS = 150 };

/* What runs in a process of its own: a checkpoint after every second step; the hash goes into a file. */
static int child(const char *checkpoint, const char *result)
{
    task t;
    task_open(&t, 2);
    pith_train_options o = task_options(&t, KILL_STEPS, checkpoint);
    o.checkpoint_every = 2;
    pith_train_role role = task_role(PITH_ADAMW);
    pith_trainer *trainer;
    assert_ok(t.ctx, pith_trainer_new(t.tape, &o, &role, 1, &trainer));
    task_keep(&t, trainer);
    assert_ok(t.ctx, pith_trainer_run(trainer, NULL));
    uint64_t hash = task_hash(&t);
    test_write_file(result, &hash, sizeof hash);
    pith_trainer_free(trainer);
    task_close(&t);
    return 0;
}

static pid_t start(const char *checkpoint, const char *result)
{
    char *args[] = {(char *)"child", (char *)(uintptr_t)checkpoint, (char *)(uintptr_t)result, NULL};
    pid_t pid;
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, args, environ), 0);
    return pid;
}

static uint64_t result_of(const char *path)
{
    size_t len;
    uint8_t *data = test_read_file(path, &len);
    assert_int_equal(len, 8);
    uint64_t hash = pith_le64(data);
    free(data);
    return hash;
}

static void test_killed(void **state)
{
    (void)state;
    int status, n_killed = 0, n_kept = 0;
    double begin = pith_now_s();
    assert_int_equal(waitpid(start(test_path("whole.checkpoint"), test_path("whole")), &status, 0) > 0 && status == 0, 1);
    double whole_s = pith_now_s() - begin;
    char checkpoint[128], result[128];
    strcpy(checkpoint, test_path("killed.checkpoint"));
    strcpy(result, test_path("killed"));
    pith_rng rng = {(uint64_t)getpid(), 0, 0};
    for (int round = 0;; round++) {
        pid_t pid = start(checkpoint, result);
        if (round == 0) { /* surely in the middle: as soon as there is a checkpoint */
            while (access(checkpoint, F_OK) != 0) usleep(200);
            kill(pid, SIGKILL);
        } else if (round < 12) {
            usleep((useconds_t)(1e6 * whole_s * (0.1 + 0.5 * (double)pith_rng_uniform(&rng))));
            kill(pid, SIGKILL);
        }
        assert_true(waitpid(pid, &status, 0) == pid);
        n_killed += WIFSIGNALED(status);
        struct stat st;
        n_kept += WIFSIGNALED(status) && stat(checkpoint, &st) == 0;
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            if (round >= 12 || access(result, F_OK) == 0) break;
        }
    }
    assert_true(n_killed >= 1 && n_kept >= 1);
    /* what was half written is gone, but for that of a process that runs */
    char leftover[160], ours[160];
    snprintf(leftover, sizeof leftover, "%s.%d.partial", checkpoint, 1 << 22); /* above the largest process number */
    snprintf(ours, sizeof ours, "%s.%d.partial", checkpoint, (int)getpid());
    test_write_file(leftover, "x", 1);
    test_write_file(ours, "x", 1);
    unlink(result);
    assert_true(waitpid(start(checkpoint, result), &status, 0) > 0 && status == 0);
    assert_int_equal(access(leftover, F_OK), -1);
    assert_int_equal(access(ours, F_OK), 0);
    assert_true(result_of(result) == result_of(test_path("whole")));
}

/* ---- damage ----------------------------------------------------------------------------------- */

static void test_damaged(void **state)
{
    (void)state;
    const char *path = test_path("damaged");
    uint64_t hash, fresh;
    pith_train_result r;
    assert_int_equal(train(PITH_ADAMW, true, path, 20, &r, &hash), PITH_E_CANCELLED);
    size_t len;
    uint8_t *whole = test_read_file(path, &len), *copy = malloc(len + 1);
    task t;
    task_open(&t, 1);
    fresh = task_hash(&t);
    task_close(&t);
    for (size_t at = 0; at < len; at += at < 64 ? 1 : len / 97) {
        memcpy(copy, whole, len);
        copy[at] ^= 0x10;
        test_write_file(path, copy, len);
        pith_status s = train(PITH_ADAMW, true, path, 0, &r, &hash);
        assert_true(s == (at < 8 ? PITH_E_FORMAT : at < 16 ? PITH_E_ARGUMENT : PITH_E_CORRUPT));
        assert_true(hash == fresh); /* nothing was taken from it */
    }
    for (size_t cut = 0; cut < len; cut += cut < 64 ? 1 : len / 53) {
        test_write_file(path, whole, cut);
        pith_status s = train(PITH_ADAMW, true, path, 0, &r, &hash);
        assert_true(s == (cut < 32 ? PITH_E_FORMAT : PITH_E_CORRUPT) && hash == fresh);
    }
    /* lengths that lie, with a checksum that fits */
    memcpy(copy, whole, len);
    for (int field = 0; field < 3; field++) {
        memcpy(copy, whole, len);
        pith_put64(copy + 32 + 8 * field, field ? 17 : UINT64_MAX / 320);
        pith_put64(copy + 24, pith_hash(copy + 32, len - 32));
        test_write_file(path, copy, len);
        assert_int_equal(train(PITH_ADAMW, true, path, 0, &r, &hash), PITH_E_CORRUPT);
    }
    /* another run's; it stays as it is */
    test_write_file(path, whole, len);
    assert_int_equal(train(PITH_SGD, true, path, 0, &r, &hash), PITH_E_ARGUMENT);
    size_t now;
    uint8_t *after = test_read_file(path, &now);
    assert_true(now == len && memcmp(after, whole, len) == 0);
    assert_int_equal(train(PITH_ADAMW, true, path, 0, &r, &hash), PITH_OK);
    free(after);
    free(copy);
    free(whole);
}

static void test_full_disk(void **state)
{
    (void)state;
    const char *path = test_path("full");
    uint64_t hash;
    pith_train_result r;
    assert_int_equal(train(PITH_ADAMW, false, path, 20, &r, &hash), PITH_E_CANCELLED);
    size_t len, now;
    uint8_t *before = test_read_file(path, &len);
    struct rlimit was, small = {1000, 0};
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    pith_status status = train(PITH_ADAMW, false, path, 0, &r, &hash);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(status, PITH_E_IO);
    assert_int_equal(r.n_steps, N_STEPS);
    uint8_t *after = test_read_file(path, &now);
    assert_true(now == len && memcmp(after, before, len) == 0);
    free(after);
    free(before);
    /* no folder to write to: told before the first step */
    assert_int_equal(train(PITH_ADAMW, false, test_path("no/where"), 0, &r, &hash), PITH_E_IO);
    assert_int_equal(r.n_steps, 0);
}

static void test_nonfinite_keeps(void **state)
{
    (void)state;
    task t;
    task_open(&t, 1);
    t.nan_at = 9;
    pith_train_options o = task_options(&t, 20, test_path("nan"));
    o.checkpoint_every = 3;
    pith_train_role role = task_role(PITH_ADAMW);
    pith_trainer *trainer;
    assert_ok(t.ctx, pith_trainer_new(t.tape, &o, &role, 1, &trainer));
    task_keep(&t, trainer);
    assert_int_equal(pith_trainer_run(trainer, NULL), PITH_E_NONFINITE);
    pith_trainer_free(trainer);
    t.nan_at = 0;
    assert_ok(t.ctx, pith_trainer_new(t.tape, &o, &role, 1, &trainer));
    task_keep(&t, trainer);
    pith_train_result r;
    assert_ok(t.ctx, pith_trainer_run(trainer, &r));
    assert_true(r.resumed_from == 9 && r.n_steps == 20);
    pith_trainer_free(trainer);
    task_close(&t);
}

/* Every allocation fails once: the error is told, nothing leaks, and the file is a whole checkpoint or none. */
static pith_status whole_run(pith_ctx *ctx, const void *curves)
{
    const char *path = test_path("memory");
    unlink(path);
    task t = {.ctx = ctx, .batch = TASK_BATCH};
    pith_train_options o = task_options(&t, 8, path);
    o.restore_best = true;
    o.curves = curves;
    pith_train_role role = task_role(PITH_MUON);
    pith_trainer *trainer = NULL;
    pith_status status;
    PITH_TRY(pith_tape_new(ctx, 5, &t.tape));
    t.w1 = pith_tape_param(t.tape, "w1", PITH_DIMS(TASK_HIDDEN, TASK_IN));
    t.b1 = pith_tape_param(t.tape, "b1", PITH_DIMS(TASK_HIDDEN));
    t.w2 = pith_tape_param(t.tape, "w2", PITH_DIMS(1, TASK_HIDDEN));
    PITH_GOTO(pith_tape_status(t.tape), done);
    PITH_GOTO(pith_trainer_new(t.tape, &o, &role, 1, &trainer), done);
    PITH_GOTO(pith_trainer_keep(trainer, "mean", t.mean, sizeof t.mean), done);
    PITH_GOTO(pith_trainer_run(trainer, NULL), done);
    assert_int_equal(access(path, F_OK), 0);
done:
    pith_trainer_free(trainer);
    pith_tape_free(t.tape);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_in_range(test_every_fault(whole_run, NULL), 1, 1000);
    /* curves that cannot be written stop no run */
    char stem[128];
    strcpy(stem, test_path("curves"));
    assert_in_range(test_every_fault_with(whole_run, stem, &(test_fault_options){.can_do_without = true}), 1, 1000);
}

int main(int argc, char **argv)
{
    if (argc == 3) return child(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancelled), cmocka_unit_test(test_killed), cmocka_unit_test(test_damaged), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_nonfinite_keeps), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, test_make_folder, test_drop_folder);
}
