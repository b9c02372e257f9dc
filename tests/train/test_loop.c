/* The loop: what it computes, logs, and when it stops. */
#include "task.h"

static pith_trainer *open_run(task *t, const pith_train_options *o, const pith_train_role *role)
{
    pith_trainer *trainer;
    assert_ok(t->ctx, pith_trainer_new(t->tape, o, role, 1, &trainer));
    task_keep(t, trainer);
    return trainer;
}

static void test_learns(void **state)
{
    (void)state;
    for (pith_optimizer_kind kind = PITH_SGD; kind <= PITH_MUON; kind++) {
        task t;
        task_open(&t, 1);
        pith_train_options o = task_options(&t, 300, NULL);
        pith_train_role role = task_role(kind);
        pith_trainer *trainer = open_run(&t, &o, &role);
        pith_train_result r;
        assert_ok(t.ctx, pith_trainer_run(trainer, &r));
        const pith_train_history *h = pith_trainer_history(trainer);
        assert_int_equal(r.n_steps, 300);
        assert_true(r.resumed_from == 0 && !r.stopped_early && !r.diverged && r.steps_per_s > 0);
        assert_int_equal(h->n_terms, 2);
        assert_int_equal(h->n_figures, 1);
        assert_string_equal(h->role[0], "loss");
        const pith_train_point *first = &h->points[0], *last = &h->points[h->n_points - 1];
        assert_int_equal(first->step, 5);
        assert_int_equal(last->step, 300);
        assert_true(last->loss[0] < 0.4 * first->loss[0]);
        assert_true(fabs(last->loss[0] - last->term[0] - last->term[1]) < 1e-6); /* the terms are the sum's */
        assert_true(isnan(first->figure[0]) && last->figure[0] < 0.2 && last->norm > 0);
        assert_true(fabs(first->rate - (double)pith_schedule_rate(&(pith_schedule){PITH_RATE_COSINE, 0.01f, 0.001f, 3, 300}, 4)) < 1e-9);
        assert_int_equal(pith_trainer_run(trainer, NULL), PITH_E_ARGUMENT);
        pith_trainer_free(trainer);
        task_close(&t);
    }
}

/* The mean of parts, exactly: losses whose gradients are known. */
static pith_var *line_loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    return pith_var_scale(pith_var_sum(*(pith_var **)user, PITH_ALL_AXES), (float)(at->part + 1));
}

static void test_parts_mean(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 0, &tape));
    pith_var *w = pith_tape_param(tape, "w", PITH_DIMS(2));
    pith_train_options o = {.n_steps = 2, .n_parts = 4, .user = &w};
    pith_train_role role = {.optimizer = {.kind = PITH_SGD}, .schedule = {.rate = 1}, .loss = line_loss};
    pith_trainer *trainer;
    assert_ok(ctx, pith_trainer_new(tape, &o, &role, 1, &trainer));
    assert_ok(ctx, pith_trainer_run(trainer, NULL));
    assert_true(w->data[0] == -5 && w->data[1] == -5); /* two steps of (1 + 2 + 3 + 4) / 4 */
    pith_trainer_free(trainer);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Two roles on one tape: each moves its own parameter only. */
typedef struct duel {
    pith_var *a, *b;
    int n_gradients, n_changed;
} duel;

static pith_var *loss_a(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    duel *d = user;
    assert_int_equal(at->role, 0);
    assert_true(d->a->needs_grad && !d->b->needs_grad);
    return pith_var_sum(pith_var_square(pith_var_sub(d->a, d->b)), PITH_ALL_AXES);
}

static pith_var *loss_b(void *user, pith_tape *tape, pith_train_at *at)
{
    duel *d = user;
    assert_true(at->step >= 2 && !d->a->needs_grad && d->b->needs_grad);
    return pith_var_sum(pith_var_square(pith_var_sub(pith_tape_fill(tape, 3, PITH_DIMS(1)), pith_var_add(d->b, pith_var_scale(d->a, 0)))), PITH_ALL_AXES);
}

static bool owns_a(void *user, const pith_var *p) { return p == ((duel *)user)->a; }
static bool owns_b(void *user, const pith_var *p) { return p == ((duel *)user)->b; }

static pith_status see_gradients(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape, (void)at;
    duel *d = user;
    assert_true(d->b->grad && !d->a->grad);
    d->n_gradients++;
    return PITH_OK;
}

static pith_status see_changed(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape, (void)at;
    duel *d = user;
    assert_null(d->b->grad);
    d->n_changed++;
    return PITH_OK;
}

static void test_roles(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 0, &tape));
    duel d = {.a = pith_tape_param(tape, "a", PITH_DIMS(1)), .b = pith_tape_param(tape, "b", PITH_DIMS(1))};
    d.a->data[0] = 1;
    pith_train_options o = {.n_steps = 3, .log_every = 1, .user = &d};
    pith_train_role roles[2] = {{.name = "g", .optimizer = {.kind = PITH_SGD}, .schedule = {.rate = 0.25f}, .owns = owns_a, .loss = loss_a},
                                {.name = "d", .optimizer = {.kind = PITH_SGD}, .schedule = {.rate = 0.25f}, .owns = owns_b, .loss = loss_b, .first_step = 2, .gradients = see_gradients, .changed = see_changed}};
    pith_trainer *trainer;
    assert_ok(ctx, pith_trainer_new(tape, &o, roles, 2, &trainer));
    assert_ok(ctx, pith_trainer_run(trainer, NULL));
    assert_true(d.a->data[0] == 0.125f); /* halved three times towards b = 0 */
    assert_true(d.b->data[0] == 1.5f);   /* one step, halfway to 3 */
    assert_true(d.n_gradients == 1 && d.n_changed == 1);
    const pith_train_history *h = pith_trainer_history(trainer);
    assert_string_equal(h->role[0], "g.loss");
    assert_string_equal(h->role[1], "d.loss");
    assert_true(isnan(h->points[1].loss[1]) && h->points[2].loss[1] == 9);
    pith_trainer_free(trainer);
    roles[1].name = NULL;
    assert_int_equal(pith_trainer_new(tape, &o, roles, 2, &trainer), PITH_E_ARGUMENT);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Figures are best at step 20: the run stops three evaluations later, and may end with step 20's parameters. */
typedef struct watched {
    pith_var *w;
    pith_trainer *trainer;
} watched;

static pith_var *watched_loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape, (void)at;
    return pith_var_sum(((watched *)user)->w, PITH_ALL_AXES);
}

static pith_status watched_figure(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    assert_false(pith_recording(tape));
    pith_train_note(at, "good", -fabs((double)((watched *)user)->w->data[0] + 20));
    return PITH_OK;
}

static void test_early_stop(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (int mode = 0; mode < 2; mode++) {
        pith_tape *tape;
        assert_ok(ctx, pith_tape_new(ctx, 0, &tape));
        watched u = {.w = pith_tape_param(tape, "w", PITH_DIMS(1))};
        pith_train_options o = {.n_steps = 100, .evaluate_every = 10, .evaluate = watched_figure, .watch = "good", .watch_largest = true, .patience = 3, .restore_best = mode == 1, .user = &u};
        pith_train_role role = {.optimizer = {.kind = PITH_SGD}, .schedule = {.rate = 1}, .loss = watched_loss};
        assert_ok(ctx, pith_trainer_new(tape, &o, &role, 1, &u.trainer));
        pith_train_result r;
        assert_ok(ctx, pith_trainer_run(u.trainer, &r));
        assert_true(r.stopped_early && r.n_steps == 50 && r.best == 0 && r.best_step == 20);
        assert_true(u.w->data[0] == (mode ? -20 : -50));
        pith_trainer_free(u.trainer);
        o.watch = "nothing";
        assert_ok(ctx, pith_trainer_new(tape, &o, &role, 1, &u.trainer));
        assert_int_equal(pith_trainer_run(u.trainer, NULL), PITH_E_ARGUMENT);
        assert_non_null(strstr(pith_error(ctx), "nothing"));
        pith_trainer_free(u.trainer);
        pith_tape_free(tape);
    }
    pith_ctx_free(ctx);
}

static void test_nonfinite(void **state)
{
    (void)state;
    task t;
    task_open(&t, 1);
    t.nan_at = 4;
    pith_train_options o = task_options(&t, 10, NULL);
    pith_train_role role = task_role(PITH_ADAMW);
    pith_trainer *trainer = open_run(&t, &o, &role);
    pith_train_result r;
    assert_int_equal(pith_trainer_run(trainer, &r), PITH_E_NONFINITE);
    assert_true(r.diverged && r.n_steps == 4);
    assert_non_null(strstr(pith_error(t.ctx), "step 4"));
    assert_non_null(strstr(pith_error(t.ctx), "of the log of"));
    assert_int_equal(pith_trainer_run(trainer, NULL), PITH_E_ARGUMENT); /* what is half done cannot go on */
    pith_trainer_free(trainer);
    task_close(&t);
}

/* What callbacks do wrong is an error that says what. */
static pith_var *no_loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    if (*(int *)user == 1) at->status = pith_fail(pith_tape_ctx(tape), PITH_E_IO, "no data");
    if (*(int *)user == 2) {
        char name[16];
        for (int i = 0; i <= PITH_TRAIN_MAX_NOTES; i++) {
            snprintf(name, sizeof name, "n%d", i);
            pith_train_note(at, name, 0);
        }
    }
    if (*(int *)user == 3) pith_var_add(pith_tape_fill(tape, 0, PITH_DIMS(2)), pith_tape_fill(tape, 0, PITH_DIMS(3)));
    return NULL;
}

static void test_failures(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const pith_status wanted[] = {PITH_E_ARGUMENT, PITH_E_IO, PITH_E_ARGUMENT, PITH_E_SHAPE};
    static const char *const words[] = {"there is no loss", "no data", "n16", "[3]"};
    for (int mode = 0; mode < 4; mode++) {
        pith_tape *tape;
        assert_ok(ctx, pith_tape_new(ctx, 0, &tape));
        pith_tape_param(tape, "w", PITH_DIMS(1));
        pith_train_options o = {.n_steps = 1, .user = &mode};
        pith_train_role role = {.schedule = {.rate = 1}, .loss = no_loss};
        pith_trainer *trainer;
        assert_ok(ctx, pith_trainer_new(tape, &o, &role, 1, &trainer));
        assert_int_equal(pith_trainer_run(trainer, NULL), wanted[mode]);
        assert_non_null(strstr(pith_error(ctx), words[mode]));
        pith_trainer_free(trainer);
        role.loss = NULL;
        assert_int_equal(pith_trainer_new(tape, &o, &role, 1, &trainer), PITH_E_ARGUMENT);
        role.loss = no_loss;
        o.patience = 2;
        assert_int_equal(pith_trainer_new(tape, &o, &role, 1, &trainer), PITH_E_ARGUMENT);
        o.patience = 0, o.checkpoint_every = 2;
        assert_int_equal(pith_trainer_new(tape, &o, &role, 1, &trainer), PITH_E_ARGUMENT);
        pith_tape_free(tape);
    }
    pith_ctx_free(ctx);
}

static void test_threads(void **state)
{
    (void)state;
    for (pith_optimizer_kind kind = PITH_SGD; kind <= PITH_MUON; kind++) {
        uint64_t hash[2];
        for (int n = 0; n < 2; n++) {
            task t;
            task_open(&t, n ? 4 : 1);
            pith_train_options o = task_options(&t, 10, NULL);
            pith_train_role role = task_role(kind);
            pith_trainer *trainer = open_run(&t, &o, &role);
            assert_ok(t.ctx, pith_trainer_run(trainer, NULL));
            hash[n] = task_hash(&t);
            pith_trainer_free(trainer);
            task_close(&t);
        }
        assert_true(hash[0] == hash[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns), cmocka_unit_test(test_parts_mean), cmocka_unit_test(test_roles), cmocka_unit_test(test_early_stop),
        cmocka_unit_test(test_nonfinite), cmocka_unit_test(test_failures), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
