/* The loop: steps, means of losses, evaluations, and when to save and stop. */
#include <math.h>

#include "train/curves.h"
#include "train/trainer.h"

/* ---- making and freeing ----------------------------------------------------------------------- */

void pith_train_group_matrices(void *user, const pith_var *param, pith_train_group *group)
{
    (void)user;
    if (param->n_dims < 2) group->weight_decay = 0;
}

static pith_status check_options(pith_ctx *ctx, const pith_train_options *o, const pith_train_role *roles, size_t n_roles)
{
    size_t n_processes = o->group ? pith_group_size(o->group) : 1, n_parts = PITH_MAX(o->n_parts, 1u);
    if (n_parts % n_processes)
        return pith_fail(ctx, PITH_E_ARGUMENT, "train: a step of %zu parts cannot be shared by %zu workers; make the parts (accumulate in a card) a multiple of that", n_parts, n_processes);
    if (n_roles < 1 || n_roles > PITH_TRAIN_MAX_ROLES) return pith_fail(ctx, PITH_E_ARGUMENT, "train: %zu roles; there are 1 to %d", n_roles, PITH_TRAIN_MAX_ROLES);
    for (size_t i = 0; i < n_roles; i++) {
        if (!roles[i].loss) return pith_fail(ctx, PITH_E_ARGUMENT, "train: role %zu has no loss", i);
        if (n_roles > 1 && (!roles[i].name || strlen(roles[i].name) > PITH_TRAIN_NAME - sizeof ".loss"))
            return pith_fail(ctx, PITH_E_ARGUMENT, "train: of several roles each has a name, of at most %zu letters", PITH_TRAIN_NAME - sizeof ".loss");
    }
    bool watches = o->patience || o->restore_best;
    if (watches && (!o->watch || !o->evaluate)) return pith_fail(ctx, PITH_E_ARGUMENT, "train: patience and restore_best need `evaluate` and the name of a figure to watch");
    if (!o->checkpoint && (o->checkpoint_every || o->checkpoint_seconds > 0)) return pith_fail(ctx, PITH_E_ARGUMENT, "train: checkpoint_every needs a file to write to");
    return PITH_OK;
}

/* Strings of the caller, copied. */
static pith_status copy_text(pith_ctx *ctx, const char **text)
{
    if (*text && !(*text = pith_strdup(ctx, *text))) return PITH_E_MEMORY;
    return PITH_OK;
}

static void free_text(pith_ctx *ctx, const char *text) { pith_free(ctx, (char *)(uintptr_t)text); }

static pith_status make_role(pith_trainer *t, size_t i_role, const pith_train_role *set)
{
    pith_ctx *ctx = t->ctx;
    pith_role_state *r = &t->roles[i_role];
    r->set = *set;
    r->set.name = NULL;
    if (r->set.schedule.n_steps == 0) r->set.schedule.n_steps = t->set.n_steps;
    if (t->history.n_roles > 1) snprintf(t->history.role[i_role], PITH_TRAIN_NAME, "%.*s.loss", PITH_TRAIN_NAME - (int)sizeof ".loss", set->name);
    else strcpy(t->history.role[i_role], "loss");
    size_t n, n_owned = 0;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    r->owned = pith_calloc(ctx, n, sizeof *r->owned);
    pith_var **owned = pith_array(ctx, n, sizeof *owned);
    pith_status status = r->owned && owned ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < n && status == PITH_OK; i++) {
        r->owned[i] = !set->owns || set->owns(t->set.user, params[i]);
        if (r->owned[i]) owned[n_owned++] = params[i];
    }
    if (status == PITH_OK && n_owned == 0) status = pith_fail(ctx, PITH_E_ARGUMENT, "train: role %zu has no parameter", i_role);
    if (status == PITH_OK) status = pith_optimizer_new_for(t->tape, &set->optimizer, owned, n_owned, &r->optimizer);
    for (size_t i = 0; i < n_owned && set->group && status == PITH_OK; i++) {
        pith_train_group g = {set->optimizer.weight_decay, 1, false};
        set->group(t->set.user, owned[i], &g);
        pith_optimizer_group(r->optimizer, &owned[i], 1, g.weight_decay, g.rate_factor);
        if (g.plain) status = pith_optimizer_plain(r->optimizer, &owned[i], 1);
    }
    pith_free(ctx, owned);
    return status;
}

static pith_status fill(pith_trainer *t, const pith_train_role *roles)
{
    pith_train_options *o = &t->set;
    size_t n;
    pith_tape_params(t->tape, &n);
    /* all of them, so that freeing never meets the caller's */
    pith_status status = PITH_OK, s;
    const char **texts[] = {&o->checkpoint, &o->curves, &o->watch, &o->item_name};
    for (size_t i = 0; i < PITH_COUNT(texts); i++) {
        if ((s = copy_text(t->ctx, texts[i])) != PITH_OK) status = s;
    }
    PITH_TRY(status);
    t->history.n_steps = o->n_steps;
    t->history.item_name = o->n_items > 0 ? (o->item_name ? o->item_name : "items") : "steps";
    t->needs_grad = pith_array(t->ctx, n, sizeof *t->needs_grad);
    if (!t->needs_grad) return PITH_E_MEMORY;
    for (size_t i = 0; i < t->history.n_roles; i++) PITH_TRY(make_role(t, i, &roles[i]));
    return pith_trainer_join(t);
}

pith_status pith_trainer_new(pith_tape *tape, const pith_train_options *options, const pith_train_role *roles, size_t n_roles, pith_trainer **out)
{
    pith_ctx *ctx = pith_tape_ctx(tape);
    PITH_TRY(check_options(ctx, options, roles, n_roles));
    pith_trainer *t = pith_calloc(ctx, 1, sizeof *t);
    if (!t) return PITH_E_MEMORY;
    t->ctx = ctx;
    t->tape = tape;
    t->set = *options;
    t->state.best = t->state.norm = (double)NAN;
    t->history.n_roles = n_roles;
    if (t->set.n_parts == 0) t->set.n_parts = 1;
    if (t->set.log_every == 0) t->set.log_every = PITH_MAX(t->set.n_steps / 200, (uint64_t)1);
    pith_status status = fill(t, roles);
    if (status != PITH_OK) {
        pith_trainer_free(t);
        return status;
    }
    *out = t;
    return PITH_OK;
}

void pith_trainer_free(pith_trainer *t)
{
    if (!t) return;
    pith_ctx *ctx = t->ctx;
    pith_trainer_leave(t);
    for (size_t i = 0; i < t->history.n_roles; i++) {
        pith_optimizer_free(t->roles[i].optimizer);
        pith_free(ctx, t->roles[i].owned);
    }
    for (size_t i = 0; i < t->n_kept; i++) pith_free(ctx, t->kept[i].name);
    pith_free(ctx, t->kept);
    pith_free(ctx, t->best);
    pith_free(ctx, t->points);
    pith_free(ctx, t->needs_grad);
    free_text(ctx, t->set.checkpoint);
    free_text(ctx, t->set.curves);
    free_text(ctx, t->set.watch);
    free_text(ctx, t->set.item_name);
    pith_free(ctx, t);
}

pith_status pith_trainer_keep(pith_trainer *t, const char *name, void *data, size_t n_bytes)
{
    kept *bigger = pith_resize(t->ctx, t->kept, (t->n_kept + 1) * sizeof *bigger);
    if (!bigger) return PITH_E_MEMORY;
    t->kept = bigger;
    char *copy = pith_strdup(t->ctx, name);
    if (!copy) return PITH_E_MEMORY;
    t->kept[t->n_kept++] = (kept){copy, data, n_bytes, false};
    return PITH_OK;
}

pith_status pith_trainer_share(pith_trainer *t, const char *name, float *data, size_t n)
{
    PITH_TRY(pith_trainer_keep(t, name, data, n * sizeof *data));
    t->kept[t->n_kept - 1].shared = true;
    return PITH_OK;
}

const pith_train_history *pith_trainer_history(const pith_trainer *t) { return &t->history; }
pith_tape *pith_trainer_tape(const pith_trainer *t) { return t->tape; }

/* ---- notes ------------------------------------------------------------------------------------ */

void pith_train_note(pith_train_at *at, const char *name, double value)
{
    pith_trainer *t = at->trainer;
    pith_train_history *h = &t->history;
    size_t *n = t->evaluating ? &h->n_figures : &h->n_terms, i = 0;
    char(*names)[PITH_TRAIN_NAME] = t->evaluating ? h->figure : h->term;
    while (i < *n && strcmp(names[i], name) != 0) i++;
    if (i == *n) {
        if (*n == PITH_TRAIN_MAX_NOTES || strlen(name) >= PITH_TRAIN_NAME) {
            if (t->note_status == PITH_OK)
                t->note_status = pith_fail(t->ctx, PITH_E_ARGUMENT, "train: %s cannot be noted: there are at most %d names, each shorter than %d letters", name, PITH_TRAIN_MAX_NOTES, PITH_TRAIN_NAME);
            return;
        }
        /* points before the name was known */
        for (size_t k = 0; k < h->n_points; k++) (t->evaluating ? t->points[k].figure : t->points[k].term)[i] = (double)NAN;
        strcpy(names[i], name);
        t->figure[i] = t->evaluating ? (double)NAN : t->figure[i];
        ++*n;
    }
    if (t->evaluating) {
        t->figure[i] = value;
    } else {
        t->state.term[i].sum += value;
        t->state.term[i].n++;
    }
}

pith_var *pith_train_term(pith_train_at *at, const char *name, pith_var *v)
{
    if (v && v->count == 1 && v->data) pith_train_note(at, name, (double)v->data[0]);
    return v;
}

double pith_train_figure(const pith_train_history *h, const char *name)
{
    double last = (double)NAN;
    for (size_t i = 0; i < h->n_figures; i++)
        for (size_t k = 0; k < h->n_points && strcmp(h->figure[i], name) == 0; k++)
            if (!isnan(h->points[k].figure[i])) last = h->points[k].figure[i];
    return last;
}

/* ---- steps ------------------------------------------------------------------------------------ */

/* Only the role's own parameters take gradients. */
static void own(pith_trainer *t, const pith_role_state *role)
{
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    for (size_t i = 0; i < n; i++) {
        t->needs_grad[i] = params[i]->needs_grad;
        params[i]->needs_grad &= role->owned[i];
    }
}

static void disown(pith_trainer *t)
{
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    for (size_t i = 0; i < n; i++) params[i]->needs_grad = t->needs_grad[i];
}

/* What a callback of the caller's left behind. */
static pith_status outcome(pith_trainer *t, const pith_train_at *at)
{
    PITH_TRY(at->status);
    PITH_TRY(t->note_status);
    return pith_tape_status(t->tape);
}

static bool leads(const pith_trainer *t) { return pith_group_leads(t->set.group); }

pith_status pith_trainer_pass(pith_trainer *t, pith_role_state *role, pith_train_at *at, uint32_t n_mean)
{
    pith_tape *tape = t->tape;
    pith_tape_step(tape, (at->step * PITH_TRAIN_MAX_ROLES + at->role) * at->n_parts + at->part);
    pith_var *loss = role->set.loss(t->set.user, tape, at);
    PITH_TRY(outcome(t, at));
    if (!loss) return pith_fail(t->ctx, PITH_E_ARGUMENT, "train: there is no loss, and no error that says why");
    if (loss->count == 1 && loss->data) {
        t->state.loss[at->role].sum += (double)loss->data[0];
        t->state.loss[at->role].n++;
    }
    return pith_backward(tape, n_mean > 1 ? pith_var_scale(loss, 1.0f / (float)n_mean) : loss, 0);
}

static pith_status turn(pith_trainer *t, size_t i_role)
{
    pith_role_state *role = &t->roles[i_role];
    pith_train_at at = {.trainer = t, .step = t->state.step, .n_parts = t->set.n_parts, .role = i_role};
    PITH_TRY(pith_trainer_gradients(t, role, &at));
    if (role->set.gradients) {
        PITH_TRY(role->set.gradients(t->set.user, t->tape, &at));
        PITH_TRY(outcome(t, &at));
    }
    PITH_TRY(pith_optimizer_step(role->optimizer, pith_schedule_rate(&role->set.schedule, at.step)));
    if (i_role == 0) t->state.norm = pith_optimizer_norm(role->optimizer);
    if (role->set.changed) {
        PITH_TRY(role->set.changed(t->set.user, t->tape, &at));
        PITH_TRY(outcome(t, &at));
    }
    return PITH_OK;
}

static pith_status one_step(pith_trainer *t)
{
    double begin = pith_now_s();
    pith_status status = PITH_OK;
    pith_loop_state before = t->state;
    t->between = true;
    pith_trainer_begin_step(t);
    for (size_t i = 0; i < t->history.n_roles && status == PITH_OK; i++) {
        if (t->state.step < t->roles[i].set.first_step) continue;
        own(t, &t->roles[i]);
        status = turn(t, i);
        disown(t);
    }
    if (status == PITH_OK) status = pith_trainer_end_step(t, &before);
    t->state.seconds += pith_now_s() - begin;
    if (status != PITH_OK) {
        pith_tape_zero_grad(t->tape);
        return pith_fail_at(t->ctx, status, "train: step %llu", (unsigned long long)t->state.step);
    }
    t->state.step++;
    t->between = false;
    return PITH_OK;
}

/* ---- evaluation ------------------------------------------------------------------------------- */

static void swap_averages(pith_trainer *t)
{
    for (size_t i = 0; i < t->history.n_roles; i++) pith_optimizer_swap_ema(t->roles[i].optimizer);
}

/* Parameters and kept memory to (save) or from the copy of the best. */
static void copy_best(pith_trainer *t, bool save)
{
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    uint8_t *at = t->best;
    for (size_t i = 0; i < n + t->n_kept; i++) {
        void *data = i < n ? (void *)params[i]->data : t->kept[i - n].data;
        size_t len = i < n ? params[i]->count * sizeof(float) : t->kept[i - n].n_bytes;
        if (len) memcpy(save ? at : data, save ? data : at, len);
        at += len;
    }
}

static pith_status judge(pith_trainer *t)
{
    pith_loop_state *s = &t->state;
    const pith_train_history *h = &t->history;
    size_t i = 0;
    while (i < h->n_figures && strcmp(h->figure[i], t->set.watch) != 0) i++;
    if (i == h->n_figures) return pith_fail(t->ctx, PITH_E_ARGUMENT, "train: the figure to watch, %s, was not noted by the evaluation", t->set.watch);
    double now = t->figure[i];
    bool better = isnan(s->best) ? !isnan(now) : t->set.watch_largest ? now > s->best : now < s->best;
    if (better) {
        s->best = now;
        s->best_step = s->step;
        s->n_worse = 0;
        if (t->best) copy_best(t, true);
    } else if (++s->n_worse >= t->set.patience && t->set.patience) {
        s->stopped_early = 1;
        pith_log(t->ctx, PITH_LOG_INFO, "train: stopped at step %llu: %s has not been better than at step %llu for %u evaluations", (unsigned long long)s->step, t->set.watch, (unsigned long long)s->best_step, t->set.patience);
    }
    return PITH_OK;
}

static pith_status evaluate(pith_trainer *t)
{
    pith_train_at at = {.trainer = t, .step = t->state.step, .n_parts = 1};
    for (size_t i = 0; i < PITH_TRAIN_MAX_NOTES; i++) t->figure[i] = (double)NAN;
    swap_averages(t);
    pith_tape_step(t->tape, UINT64_MAX - t->state.step); /* random numbers of no training step */
    pith_tape_record(t->tape, false);
    t->evaluating = true;
    pith_status status = t->set.evaluate(t->set.user, t->tape, &at);
    t->evaluating = false;
    if (status == PITH_OK) status = outcome(t, &at);
    if (status == PITH_OK && t->set.watch) status = judge(t);
    pith_tape_step(t->tape, 0);
    swap_averages(t);
    return status == PITH_OK ? PITH_OK : pith_fail_at(t->ctx, status, "train: evaluation after step %llu", (unsigned long long)t->state.step);
}

/* ---- points ----------------------------------------------------------------------------------- */

pith_status pith_trainer_grow(pith_trainer *t, size_t n_points)
{
    if (n_points <= t->cap_points) return PITH_OK;
    size_t cap = PITH_MAX(n_points, 2 * t->cap_points), bytes;
    pith_train_point *bigger = pith_mul(cap, sizeof *bigger, &bytes) ? pith_resize(t->ctx, t->points, bytes) : NULL;
    if (!bigger) return PITH_E_MEMORY;
    t->points = bigger;
    t->history.points = bigger;
    t->cap_points = cap;
    return PITH_OK;
}

static double take_mean(mean *m)
{
    double x = m->n ? m->sum / (double)m->n : (double)NAN;
    *m = (mean){0};
    return x;
}

static void log_point(pith_trainer *t, const pith_train_point *p)
{
    const pith_train_history *h = &t->history;
    char text[768];
    size_t at = 0;
    for (size_t i = 0; i < h->n_roles + h->n_terms + h->n_figures && at < sizeof text; i++) {
        bool role = i < h->n_roles, term = !role && i < h->n_roles + h->n_terms;
        size_t k = role ? i : term ? i - h->n_roles : i - h->n_roles - h->n_terms;
        double x = role ? p->loss[k] : term ? p->term[k] : p->figure[k];
        if (isnan(x)) continue;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s %.5g", at ? ", " : "", role ? h->role[k] : term ? h->term[k] : h->figure[k], x);
    }
    double left_s = t->state.seconds / (double)PITH_MAX(p->step, 1u) * (double)(t->set.n_steps - PITH_MIN(p->step, t->set.n_steps));
    char sent[80] = "";
    if (h->dense_bytes > 0) snprintf(sent, sizeof sent, ", sent %.4g kB a step, %.3g of dense", h->sent_bytes * 1e-3, h->sent_bytes / h->dense_bytes);
    pith_log(t->ctx, PITH_LOG_INFO, "step %llu of %llu: %s; %.4g %s/s%s, %.0f s left", (unsigned long long)p->step, (unsigned long long)t->set.n_steps, at ? text : "nothing noted", h->items_per_s, h->item_name, sent, left_s);
}

static pith_status add_point(pith_trainer *t, bool evaluated)
{
    PITH_TRY(pith_trainer_grow(t, t->history.n_points + 1));
    pith_loop_state *s = &t->state;
    pith_train_point *p = &t->points[t->history.n_points];
    *p = (pith_train_point){.step = s->step, .seconds = s->seconds, .norm = s->norm, .rate = (double)NAN};
    if (!isnan(s->norm)) p->rate = (double)pith_schedule_rate(&t->roles[0].set.schedule, s->step - 1);
    for (size_t i = 0; i < PITH_TRAIN_MAX_ROLES; i++) p->loss[i] = take_mean(&s->loss[i]);
    for (size_t i = 0; i < PITH_TRAIN_MAX_NOTES; i++) {
        p->term[i] = take_mean(&s->term[i]);
        p->figure[i] = evaluated ? t->figure[i] : (double)NAN;
    }
    t->history.n_points++;
    t->history.items_per_s = s->seconds > 0 ? (t->set.n_items > 0 ? t->set.n_items : 1) * (double)s->step / s->seconds : 0;
    if (!leads(t)) return PITH_OK;
    pith_trainer_tell_sent(t);
    log_point(t, p);
    if (t->set.observe) t->set.observe(t->set.observe_user, &t->history);
    return PITH_OK;
}

/* What follows a step: the log, an evaluation. */
static pith_status settle(pith_trainer *t)
{
    pith_loop_state *s = &t->state;
    const pith_train_options *o = &t->set;
    bool last = s->step == o->n_steps;
    bool evaluated = o->evaluate && (last || (o->evaluate_every && s->step % o->evaluate_every == 0));
    if (evaluated) PITH_TRY(evaluate(t));
    if (evaluated || last || s->step % o->log_every == 0) PITH_TRY(add_point(t, evaluated));
    s->settled = s->step;
    return PITH_OK;
}

/* ---- the run ---------------------------------------------------------------------------------- */

/* A checkpoint or picture on the way that cannot be written is not worth the run: the one before it stays, the next
 * may fit.  An error's sentence that is already there stays, too. */
static pith_status keep_going(pith_trainer *t, pith_status (*write)(pith_trainer *), const char *what)
{
    char sentence[1024];
    snprintf(sentence, sizeof sentence, "%s", pith_error(t->ctx));
    pith_status status = write(t);
    if (status == PITH_OK || t->lost) return status;
    pith_log(t->ctx, PITH_LOG_WARN, "%s of step %llu not written, the last one stays: %s", what, (unsigned long long)t->state.step, pith_error(t->ctx));
    pith_fail(t->ctx, PITH_OK, "%s", sentence);
    return PITH_OK;
}

/* Of which processes: the first, and where they compress gradients all. */
static pith_status save(pith_trainer *t) { return leads(t) || t->compresses ? pith_trainer_save(t) : PITH_OK; }

static pith_status write_curves(pith_trainer *t)
{
    return t->set.curves && t->history.n_points && leads(t) ? pith_curves_write(t->ctx, &t->history, t->set.curves) : PITH_OK;
}

static pith_status prepare(pith_trainer *t, pith_train_result *result)
{
    const pith_train_options *o = &t->set;
    if (o->restore_best && !t->best) {
        size_t n, total = 0;
        pith_var *const *params = pith_tape_params(t->tape, &n);
        for (size_t i = 0; i < n; i++) total += params[i]->count * sizeof(float);
        for (size_t i = 0; i < t->n_kept; i++) total += t->kept[i].n_bytes;
        t->best = pith_calloc(t->ctx, total, 1);
        if (!t->best) return PITH_E_MEMORY;
        t->best_bytes = total;
    }
    if (o->curves && leads(t)) PITH_TRY(pith_curves_check(t->ctx, o->curves));
    if (!o->checkpoint) return PITH_OK;
    bool found;
    if (leads(t)) PITH_TRY(pith_out_check(t->ctx, o->checkpoint, "-"));
    PITH_TRY(pith_trainer_load(t, &found));
    if (!found) return PITH_OK;
    t->between = false;
    result->resumed_from = t->history.resumed_from = t->state.step;
    pith_log(t->ctx, PITH_LOG_INFO, "train: goes on from step %llu of %s", (unsigned long long)t->state.step, o->checkpoint);
    return PITH_OK;
}

/* To the last step, or until something stops it. */
static pith_status loop(pith_trainer *t)
{
    const pith_train_options *o = &t->set;
    pith_loop_state *s = &t->state;
    double saved_s = pith_now_s();
    uint64_t saved = s->step;
    for (;;) {
        pith_status go_on = s->settled < s->step ? settle(t) : PITH_OK;
        bool over = s->step >= o->n_steps || s->stopped_early;
        if (go_on == PITH_OK) go_on = pith_progress(t->ctx, "train", s->step, o->n_steps);
        PITH_TRY(pith_trainer_agree(t, go_on));
        if (over) return PITH_OK;
        bool due = (o->checkpoint_every && s->step % o->checkpoint_every == 0) || (o->checkpoint_seconds > 0 && pith_now_s() - saved_s >= o->checkpoint_seconds);
        PITH_TRY(pith_trainer_decide(t, &due));
        if (due && s->step > saved) {
            PITH_TRY(keep_going(t, save, "checkpoint"));
            PITH_TRY(keep_going(t, write_curves, "curves"));
            saved_s = pith_now_s();
            saved = s->step;
        }
        PITH_TRY(one_step(t));
    }
}

static void finish(pith_trainer *t)
{
    if (t->set.restore_best && !isnan(t->state.best)) copy_best(t, false);
    else swap_averages(t);
    t->finished = true;
}

pith_status pith_trainer_run(pith_trainer *t, pith_train_result *result)
{
    pith_train_result r = {0};
    if (result) *result = r;
    if (t->finished) return pith_fail(t->ctx, PITH_E_ARGUMENT, "train: the trainer has run to its end; make a new one to train on");
    PITH_TRY(prepare(t, &r));
    if (t->between) return pith_fail(t->ctx, PITH_E_ARGUMENT, "train: the last run failed within step %llu and has no checkpoint to go on from; make a new trainer", (unsigned long long)t->state.step);
    PITH_TRY(pith_trainer_begin_together(t));
    pith_tape_zero_grad(t->tape);
    uint64_t before = t->state.step;
    double seconds = t->state.seconds;
    pith_status status = loop(t);
    if (status == PITH_OK) status = pith_trainer_agree(t, pith_progress(t->ctx, "train", t->set.n_steps, t->set.n_steps));
    if (status == PITH_OK && t->set.checkpoint) status = save(t);
    else if (status == PITH_E_CANCELLED && t->set.checkpoint && !t->between && keep_going(t, save, "checkpoint") != PITH_OK) status = PITH_E_IO;
    keep_going(t, write_curves, "curves");
    pith_trainer_tell_sent(t);
    if (status == PITH_OK) finish(t);
    r.n_steps = t->state.step;
    r.stopped_early = t->state.stopped_early;
    r.diverged = status == PITH_E_NONFINITE;
    r.seconds = t->state.seconds;
    r.steps_per_s = r.seconds > seconds ? (double)(r.n_steps - before) / (r.seconds - seconds) : 0;
    r.best = t->state.best;
    r.best_step = t->state.best_step;
    if (result) *result = r;
    return status;
}
