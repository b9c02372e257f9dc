/* Several workers, in this process and as threads that know each other through a transport alone: the same bits, and what
 * waits in each of them survives a stop. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "files.h"
#include "stream/thread_workers.h"
#include "task.h"

enum { N_WORKERS = 3, N_STEPS = 16 };

static const struct way {
    const char *compress, *feedback;
} ways[] = {{"none", NULL}, {"topk:0.1", NULL}, {"randk:0.2", "ef21"}, {"qsgd:3", NULL}, {"sign", "econtrol"}, {"powersgd:1", "econtrol:0.3"}};

/* A run, and what became of it. */
typedef struct job {
    struct way way;
    size_t n;                      /* workers */
    uint32_t n_parts;
    const char *path;              /* checkpoint; NULL: none */
    uint64_t every, stop_at;       /* checkpoint_every; a step after which it is cancelled, 0: never */
    pith_status status;
    uint64_t hash;                 /* of all that was learned */
    uint64_t stepped;              /* hash of the gradients that were stepped along */
    double loss, sent, dense;      /* mean of the log's losses */
    uint64_t resumed_from;
    char error[512];
    uint64_t step;
} job;

/* ---- a run ------------------------------------------------------------------------------------ */

/* The task of task.h by two roles, of which the second begins late. */
typedef struct shared_task {
    task t;
    job *j;
    pith_var *idle;                /* a parameter whose gradient is -0 */
} shared_task;

static bool owns_first(void *user, const pith_var *v) { return v != ((shared_task *)user)->t.w2; }
static bool owns_second(void *user, const pith_var *v) { return !owns_first(user, v); }

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    shared_task *s = user;
    return pith_var_add(task_loss(&s->t, tape, at), pith_var_sum(pith_var_mul(s->idle, pith_tape_fill(tape, -0.0f, PITH_DIMS(2))), PITH_ALL_AXES));
}

static pith_status hash_gradients(void *user, pith_tape *tape, pith_train_at *at)
{
    job *j = ((shared_task *)user)->j;
    size_t n;
    pith_var *const *params = pith_tape_params(tape, &n);
    (void)at;
    for (size_t i = 0; i < n; i++) {
        uint64_t pair[2] = {j->stepped, params[i]->grad ? pith_hash(params[i]->grad, params[i]->count * sizeof(float)) : 0};
        j->stepped = pith_hash(pair, sizeof pair);
    }
    return PITH_OK;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at) { return task_evaluate(&((shared_task *)user)->t, tape, at); }

static pith_status count_step(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    ((shared_task *)user)->j->step = at->step + 1;
    return PITH_OK;
}

static bool cancelled(void *user)
{
    const job *j = user;
    return j->stop_at && j->step >= j->stop_at;
}

static pith_status make_net(task *t)
{
    PITH_TRY(pith_tape_new(t->ctx, 5, &t->tape));
    t->w1 = pith_tape_param(t->tape, "w1", PITH_DIMS(TASK_HIDDEN, TASK_IN));
    t->b1 = pith_tape_param(t->tape, "b1", PITH_DIMS(TASK_HIDDEN));
    t->w2 = pith_tape_param(t->tape, "w2", PITH_DIMS(1, TASK_HIDDEN));
    if (!t->w1 || !t->b1 || !t->w2) return PITH_E_MEMORY;
    pith_rng rng = {1, 2, 3};
    for (size_t i = 0; i < t->w1->count; i++) t->w1->data[i] = 0.4f * pith_rng_normal(&rng);
    for (size_t i = 0; i < t->w2->count; i++) t->w2->data[i] = 0.2f * pith_rng_normal(&rng);
    for (size_t i = 0; i < TASK_HIDDEN; i++) t->variance[i] = 1;
    return PITH_OK;
}

static pith_status train(shared_task *s, pith_group *group)
{
    job *j = s->j;
    task *t = &s->t;
    pith_train_options o = {.n_steps = N_STEPS, .n_parts = j->n_parts, .log_every = 3, .evaluate = evaluate, .evaluate_every = 5, .watch = "mse", .restore_best = true,
                            .checkpoint = j->path, .checkpoint_every = j->every, .group = group, .user = s};
    pith_train_role roles[2] = {task_role(PITH_ADAMW), task_role(PITH_SGD)};
    for (int i = 0; i < 2; i++) {
        roles[i].name = i ? "d" : "g";
        roles[i].owns = i ? owns_second : owns_first;
        roles[i].loss = loss;
        roles[i].gradients = hash_gradients;
        roles[i].changed = count_step;
    }
    roles[1].first_step = 4;
    pith_train_result r = {0};
    pith_trainer *trainer = NULL;
    t->batch = 4;
    PITH_TRY(make_net(t));
    if (!(s->idle = pith_tape_param(t->tape, "idle", PITH_DIMS(2)))) return PITH_E_MEMORY;
    PITH_TRY(pith_channel_read(t->ctx, j->way.compress, j->way.feedback, &o.exchange));
    PITH_TRY(pith_trainer_new(t->tape, &o, roles, 2, &trainer));
    pith_status status = pith_trainer_share(trainer, "mean", t->mean, TASK_HIDDEN);
    if (status == PITH_OK) status = pith_trainer_share(trainer, "variance", t->variance, TASK_HIDDEN);
    if (status == PITH_OK) status = pith_trainer_run(trainer, &r);
    const pith_train_history *h = pith_trainer_history(trainer);
    j->loss = 0;
    for (size_t i = 0; i < h->n_points; i++) j->loss += h->points[i].loss[0] / (double)h->n_points;
    j->sent = h->sent_bytes;
    j->dense = h->dense_bytes;
    j->resumed_from = r.resumed_from;
    j->hash = task_hash(t);
    pith_trainer_free(trainer);
    return status;
}

/* With a context, and in it the group that `transport` leads to, or one of j->n workers here. */
static pith_status run_in(pith_ctx *ctx, const pith_transport *transport, job *j)
{
    shared_task *s = calloc(1, sizeof *s);
    pith_group *group = NULL;
    s->j = j;
    s->t.ctx = ctx;
    pith_status status = transport ? pith_group_over(ctx, transport, &group) : j->n ? pith_group_new(ctx, j->n, &group) : PITH_OK;
    if (status == PITH_OK) status = train(s, group);
    pith_tape_free(s->t.tape);
    pith_group_free(group);
    free(s);
    return status;
}

static pith_status run(const pith_transport *transport, job *j)
{
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_ERROR, .log = test_log, .cancelled = cancelled, .user = j};
    pith_ctx *ctx;
    j->step = 0;
    j->status = pith_ctx_new(&o, &ctx);
    if (j->status != PITH_OK) return j->status;
    j->status = run_in(ctx, transport, j);
    snprintf(j->error, sizeof j->error, "%s", pith_error(ctx));
    pith_ctx_free(ctx);
    return j->status;
}

/* ---- threads ---------------------------------------------------------------------------------- */

typedef struct worker {
    thread_worker thread;
    job j;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    pith_transport transport = thread_transport(&w->thread);
    run(&transport, &w->j);
    return NULL;
}

/* All workers end alike; j becomes the first one's. */
static void run_threads(job *j)
{
    static thread_hub hub;
    worker workers[THREAD_MOST];
    pthread_t threads[THREAD_MOST];
    hub = (thread_hub){.n = j->n, .lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
    for (size_t i = 0; i < j->n; i++) {
        workers[i] = (worker){.thread = {.hub = &hub, .rank = i}, .j = *j};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < j->n; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    *j = workers[0].j;
    for (size_t i = 1; i < j->n; i++) {
        if (workers[i].j.status != PITH_OK && workers[i].j.status != PITH_E_CANCELLED) fail_msg("worker %zu: %s", i, workers[i].j.error);
        assert_true(workers[i].j.hash == j->hash);
    }
}

static void assert_run(job *j)
{
    if (run(NULL, j) != PITH_OK) fail_msg("%s %s: %s", j->way.compress, j->way.feedback ? j->way.feedback : "", j->error);
}

/* Two parts a worker. */
static job job_of(size_t way) { return (job){.way = ways[way], .n = N_WORKERS, .n_parts = 2 * N_WORKERS}; }

/* ---- tests ------------------------------------------------------------------------------------ */

static void test_same(void **state)
{
    (void)state;
    uint64_t seen[PITH_COUNT(ways)];
    for (size_t i = 0; i < PITH_COUNT(ways); i++) {
        job here = job_of(i), threads = here;
        assert_run(&here);
        run_threads(&threads);
        assert_int_equal(threads.status, PITH_OK);
        assert_true(here.hash == threads.hash && here.stepped == threads.stepped);
        assert_true(fabs(here.loss - threads.loss) <= 1e-12 * fabs(here.loss));
        assert_true(here.sent == threads.sent && here.dense == threads.dense);
        assert_true(i ? here.sent > 0 && here.sent < 0.9 * here.dense : here.sent >= here.dense);
        /* w1, b1 and idle in each step, w2 in all but 4 */
        double dense = 4 * (TASK_HIDDEN * (TASK_IN + 1) + 2 + TASK_HIDDEN * (N_STEPS - 4.0) / N_STEPS);
        assert_true(fabs(threads.dense - dense) < 1e-9 * dense);
        seen[i] = here.hash;
        for (size_t k = 0; k < i; k++) assert_true(seen[k] != here.hash);
    }
}

/* Stopped here or among threads, and gone on with here or among threads. */
static void test_resumed(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(ways); i++) {
        job whole = job_of(i);
        assert_run(&whole);
        for (int how = 0; how < 4; how++) {
            job j = job_of(i);
            j.path = test_path("resumed");
            unlink(j.path);
            j.stop_at = how == 3 ? 1 : 7;
            if (how & 1) run_threads(&j);
            else run(NULL, &j);
            assert_int_equal(j.status, PITH_E_CANCELLED);
            assert_true(j.hash != whole.hash);
            j.stop_at = 0;
            if (how & 2) run_threads(&j);
            else assert_run(&j);
            assert_int_equal(j.status, PITH_OK);
            assert_int_equal(j.resumed_from, how == 3 ? 1 : 7);
            assert_true(j.hash == whole.hash);
            if (i) assert_true(j.sent == whole.sent && j.dense == whole.dense);
            assert_run(&j); /* once more: all is done already */
            assert_true(j.resumed_from == N_STEPS && j.hash == whole.hash);
            if (i) assert_true(j.sent == whole.sent);
        }
    }
}

/* Quietly: how a run ends that finds another's checkpoint. */
static void assert_refused(job j, const char *path, const char *theirs, const char *ours)
{
    j.path = path;
    assert_int_equal(run(NULL, &j), PITH_E_ARGUMENT);
    if (!strstr(j.error, theirs) || !strstr(j.error, ours)) fail_msg("%s", j.error);
}

static void test_other_run(void **state)
{
    (void)state;
    job j = job_of(1);
    j.path = test_path("other");
    unlink(j.path);
    j.stop_at = 5;
    assert_int_equal(run(NULL, &j), PITH_E_CANCELLED);
    size_t len, now;
    uint8_t *before = test_read_file(j.path, &len);
    const char *theirs = "was made by 3 workers that send topk:0.1 with ef";
    job other = job_of(1);
    other.n = 2;
    assert_refused(other, j.path, theirs, "this run has 2 workers that send topk:0.1 with ef");
    other = job_of(1);
    other.way.compress = "topk:0.2";
    assert_refused(other, j.path, theirs, "3 workers that send topk:0.2 with ef");
    other = job_of(1);
    other.way.feedback = "econtrol";
    assert_refused(other, j.path, theirs, "3 workers that send topk:0.1 with econtrol:0.1");
    other.way = (struct way){"none", NULL};
    assert_refused(other, j.path, theirs, "gradients that are not compressed");
    other = job_of(1);
    other.n_parts = N_WORKERS; /* the same workers, other parts */
    assert_refused(other, j.path, "belongs to another run", "other settings");
    uint8_t *after = test_read_file(j.path, &now);
    assert_true(now == len && !memcmp(before, after, len));
    free(before);
    free(after);
    /* the other way round */
    unlink(j.path);
    other = job_of(0);
    other.path = j.path;
    other.stop_at = 5;
    assert_int_equal(run(NULL, &other), PITH_E_CANCELLED);
    assert_refused(job_of(1), j.path, "was made by gradients that are not compressed", "3 workers that send topk:0.1 with ef");
}

static void test_damaged(void **state)
{
    (void)state;
    job j = job_of(1);
    j.path = test_path("damaged");
    unlink(j.path);
    j.stop_at = 9;
    assert_int_equal(run(NULL, &j), PITH_E_CANCELLED);
    j.stop_at = 0;
    size_t len;
    uint8_t *whole = test_read_file(j.path, &len), *copy = malloc(len + 1);
    for (size_t back = 1; back < len; back += len / 41) {
        memcpy(copy, whole, len);
        copy[len - back] ^= 0x20;
        test_write_file(j.path, copy, len);
        assert_int_equal(run(NULL, &j), PITH_E_CORRUPT);
    }
    /* shorter or longer than what it should hold, with a head that fits */
    for (int more = -5000; more <= 4; more += 1001) {
        size_t cut = (size_t)((long)len + more);
        copy = realloc(copy, len + 8);
        memset(copy, 0, len + 8);
        memcpy(copy, whole, PITH_MIN(cut, len));
        pith_put64(copy + 16, cut - 32);
        pith_put64(copy + 24, pith_hash(copy + 32, cut - 32));
        test_write_file(j.path, copy, cut);
        assert_int_equal(run(NULL, &j), PITH_E_CORRUPT);
    }
    test_write_file(j.path, whole, len);
    assert_run(&j);
    free(copy);
    free(whole);
}

/* The first worker cannot write on the way, nor at the end: all go on, in step, and the file before stays. */
static void test_full_disk(void **state)
{
    (void)state;
    job j = job_of(5), whole = j;
    assert_run(&whole);
    j.path = test_path("full");
    unlink(j.path);
    j.stop_at = 4;
    run_threads(&j);
    assert_int_equal(j.status, PITH_E_CANCELLED);
    size_t len, now;
    uint8_t *before = test_read_file(j.path, &len);
    struct rlimit was, small = {1000, 0};
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    j.stop_at = 0;
    j.every = 1;
    static thread_hub hub;
    hub = (thread_hub){.n = j.n, .lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
    worker workers[N_WORKERS];
    pthread_t threads[N_WORKERS];
    for (size_t i = 0; i < j.n; i++) {
        workers[i] = (worker){.thread = {.hub = &hub, .rank = i}, .j = j};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < j.n; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    setrlimit(RLIMIT_FSIZE, &was);
    for (size_t i = 0; i < j.n; i++) assert_int_equal(workers[i].j.status, i ? PITH_OK : PITH_E_IO);
    assert_true(workers[1].j.hash == whole.hash);
    uint8_t *after = test_read_file(j.path, &now);
    assert_true(now == len && !memcmp(before, after, len));
    free(before);
    free(after);
}

/* Nobody to send to: the same as without. */
static void test_alone(void **state)
{
    (void)state;
    job plain = {.way = ways[0], .n_parts = 2}, alone = {.way = ways[1], .n_parts = 2, .n = 1};
    assert_run(&plain);
    assert_run(&alone);
    assert_true(plain.hash == alone.hash && alone.sent == 0);
    job odd = job_of(1);
    odd.n_parts = N_WORKERS + 1;
    assert_int_equal(run(NULL, &odd), PITH_E_ARGUMENT);
    assert_non_null(strstr(odd.error, "cannot be shared by 3 workers"));
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    job j = *(const job *)user;
    unlink(j.path);
    return run_in(ctx, NULL, &j);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t i = 1; i < PITH_COUNT(ways); i += 4) {
        job j = job_of(i);
        j.n = 2;
        j.n_parts = 2;
        j.path = test_path("memory");
        j.every = 6;
        /* a checkpoint on the way that cannot be written stops no run */
        test_every_fault_with(life, &j, &(test_fault_options){.can_do_without = true});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same), cmocka_unit_test(test_resumed), cmocka_unit_test(test_other_run), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_alone), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, test_make_folder, test_drop_folder);
}
