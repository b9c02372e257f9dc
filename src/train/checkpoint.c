/* A run in one file: everything that decides how it goes on.
 *
 *     0   8  "PITHRUN1"
 *     8   8  what the run is (pith_trainer_identity)
 *    16   8  length of the rest, from 32 on
 *    24   8  XXH3 of the rest
 *    32      state of the loop, names of columns, number of points, points; each parameter; for each role its
 *            optimizer's steps and arrays; kept memory; the best evaluation's copy
 *
 * and of a run that compresses gradients: what was sent; for each role and tensor what waits, of each worker in turn, and what
 * they have in common; then a record in words of how many workers send how, for the error that compares them.
 *
 * Numbers are little-endian, as in memory.  One function walks over all of it, for writing and for reading. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "train/trainer.h"

#define HEAD 32
static const char magic[8] = "PITHRUN1";

/* ---- what the run is -------------------------------------------------------------------------- */

static void mix(uint64_t *hash, const void *data, size_t len)
{
    uint64_t pair[2] = {*hash, pith_hash(data, len)};
    *hash = pith_hash(pair, sizeof pair);
}

static void mix_text(uint64_t *hash, const char *format, ...) PITH_PRINTF(2, 3);
static void mix_text(uint64_t *hash, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    mix(hash, text, strlen(text));
}

static void mix_role(uint64_t *hash, const pith_trainer *t, const pith_role_state *role)
{
    const pith_optimizer_options *o = &role->set.optimizer;
    const pith_schedule *s = &role->set.schedule;
    mix_text(hash, "%d %a %d %a %a %a %a %d %a %a %a", (int)o->kind, (double)o->momentum, o->nesterov, (double)o->beta1, (double)o->beta2, (double)o->eps,
             (double)o->update_clip, o->relative, (double)o->weight_decay, (double)o->clip_norm, (double)o->ema);
    mix_text(hash, "%d %a %a %llu %llu %llu", (int)s->kind, (double)s->rate, (double)s->last_rate, (unsigned long long)s->n_warmup, (unsigned long long)s->n_steps, (unsigned long long)role->set.first_step);
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    for (size_t i = 0; i < n; i++) {
        pith_train_group g = {o->weight_decay, 1, false};
        if (role->owned[i] && role->set.group) role->set.group(t->set.user, params[i], &g);
        mix_text(hash, "%d %a %a %d", role->owned[i], (double)g.weight_decay, (double)g.rate_factor, g.plain);
    }
}

uint64_t pith_trainer_identity(const pith_trainer *t)
{
    const pith_train_options *o = &t->set;
    uint64_t hash = o->identity;
    mix_text(&hash, "%llu %llu %u %llu %d %d %u %d", (unsigned long long)pith_tape_seed(t->tape), (unsigned long long)o->n_steps, o->n_parts,
             (unsigned long long)(o->evaluate ? o->evaluate_every : 0), o->watch != NULL, o->watch_largest, o->patience, o->restore_best);
    if (o->watch) mix(&hash, o->watch, strlen(o->watch));
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    for (size_t i = 0; i < n; i++) {
        mix(&hash, params[i]->name, strlen(params[i]->name));
        mix_text(&hash, "%s", PITH_SHAPE(params[i]));
    }
    for (size_t i = 0; i < t->history.n_roles; i++) mix_role(&hash, t, &t->roles[i]);
    for (size_t i = 0; i < t->n_kept; i++) {
        mix(&hash, t->kept[i].name, strlen(t->kept[i].name));
        mix_text(&hash, "%zu", t->kept[i].n_bytes);
    }
    if (!t->compresses) return hash;
    const pith_channel_options *c = &o->exchange;
    mix_text(&hash, "%zu %d %a %d %a %d", t->history.n_workers, (int)c->compressor.kind, c->compressor.param, (int)c->feedback, (double)c->eta, c->dense_first);
    return hash;
}

/* "4 workers that send topk:0.01 with ef", for people and comparisons. */
#define SENDERS "PITHSEND"
#define PLAIN "gradients that are not compressed"
typedef struct senders {
    char magic[8], text[PITH_CHANNEL_TEXT + 24];
} senders;

static senders senders_of(const pith_trainer *t)
{
    senders s = {.magic = SENDERS};
    char how[PITH_CHANNEL_TEXT];
    pith_channel_tell(&t->set.exchange, how);
    snprintf(s.text, sizeof s.text, "%zu workers that send %s", t->history.n_workers, how);
    return s;
}

/* ---- the walk --------------------------------------------------------------------------------- */

/* Over a file being written (by the first process, in others out is NULL), or the bytes of one being read. */
typedef struct walk {
    bool writes;
    pith_out *out;
    XXH3_state_t *hash;
    const uint8_t *data;
    size_t left;
    bool store;                       /* reading: false measures only */
    pith_status status;
} walk;

/* data NULL: read past it. */
static void pass(walk *w, void *data, size_t len)
{
    if (w->status != PITH_OK) return;
    if (w->writes) {
        if (!w->out) return;
        XXH3_64bits_update(w->hash, data, len);
        w->status = pith_out_write(w->out, data, len);
    } else if (len > w->left) {
        w->status = PITH_E_CORRUPT;
    } else {
        if (w->store && data && len) memcpy(data, w->data, len);
        w->data += len;
        w->left -= len;
    }
}

static void pass_arrays(walk *w, pith_trainer *t, size_t i_role)
{
    pith_optimizer *o = t->roles[i_role].optimizer;
    pass(w, pith_optimizer_steps(o), sizeof(uint64_t));
    size_t n, count;
    pith_optimizer_params(o, &n);
    for (size_t i = 0; i < n; i++)
        for (int which = 0; which < PITH_N_STATES; which++) {
            float *x = pith_optimizer_state(o, i, which, &count);
            if (x) pass(w, x, count * sizeof *x);
        }
}

/* ---- what waits in each worker ---------------------------------------------------------------- */

typedef struct waiting {
    walk *w;
    pith_trainer *t;
} waiting;

/* All workers' arrays in turn.  Those of other processes are gathered, also after the file has failed: all take part. */
static pith_status write_own(walk *w, pith_trainer *t, float *const *x, size_t len)
{
    pith_group *group = t->set.group;
    const pith_parcel *all = NULL;
    t->lost = t->many;
    if (t->many) PITH_TRY(pith_group_gather(group, &(pith_parcel){(const uint8_t *)x[0], len}, &all));
    for (size_t i = 0; i < pith_group_size(group); i++) {
        if (all && all[i].len != len) return pith_fail(t->ctx, PITH_E_IO, "train: process %zu runs another program", i);
        pass(w, all ? (void *)(uintptr_t)all[i].data : (void *)x[i], len);
    }
    t->lost = false;
    return PITH_OK;
}

static pith_status pass_waiting(void *user, float *const *x, size_t count, bool own)
{
    waiting *u = user;
    const pith_group *group = u->t->set.group;
    size_t len = count * sizeof(float), first = pith_group_first(group);
    if (!own) pass(u->w, x[0], len);
    else if (u->w->writes) return write_own(u->w, u->t, x, len);
    else
        for (size_t i = 0; i < pith_group_size(group); i++) pass(u->w, i >= first && i - first < pith_group_local(group) ? x[i - first] : NULL, len);
    return PITH_OK;
}

static pith_status pass_exchanges(walk *w, pith_trainer *t)
{
    waiting u = {w, t};
    senders s = senders_of(t);
    if (!t->compresses) return PITH_OK;
    pass(w, &t->sent, sizeof t->sent);
    for (size_t i = 0; i < t->history.n_roles; i++) PITH_TRY(pith_exchange_visit(t->roles[i].exchange, pass_waiting, &u));
    pass(w, &s, sizeof s);
    return PITH_OK;
}

/* ---- all of it -------------------------------------------------------------------------------- */

/* n_points: of the history being written, or what the file says, which the caller has checked. */
static pith_status pass_all(walk *w, pith_trainer *t, uint64_t n_points)
{
    pith_train_history *h = &t->history;
    uint64_t counts[3] = {n_points, h->n_terms, h->n_figures};
    pass(w, counts, sizeof counts);
    pass(w, &t->state, sizeof t->state);
    pass(w, h->term, sizeof h->term);
    pass(w, h->figure, sizeof h->figure);
    pass(w, t->points, (size_t)n_points * sizeof *t->points);
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    for (size_t i = 0; i < n; i++) pass(w, params[i]->data, params[i]->count * sizeof(float));
    for (size_t i = 0; i < h->n_roles; i++) pass_arrays(w, t, i);
    for (size_t i = 0; i < t->n_kept; i++) pass(w, t->kept[i].data, t->kept[i].n_bytes);
    pass(w, t->best, t->best_bytes);
    PITH_TRY(pass_exchanges(w, t));
    if (w->store) {
        h->n_points = (size_t)n_points;
        h->n_terms = (size_t)counts[1];
        h->n_figures = (size_t)counts[2];
        for (size_t i = 0; i < PITH_TRAIN_MAX_NOTES; i++) h->term[i][PITH_TRAIN_NAME - 1] = h->figure[i][PITH_TRAIN_NAME - 1] = 0;
    }
    return w->status;
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* The head, once what follows is known; takes out over. */
static pith_status finish(walk *w, pith_trainer *t)
{
    uint8_t head[HEAD];
    memcpy(head, magic, sizeof magic);
    pith_put64(head + 8, pith_trainer_identity(t));
    pith_put64(head + 16, pith_out_tell(w->out) - HEAD);
    pith_put64(head + 24, XXH3_64bits_digest(w->hash));
    if (w->status == PITH_OK) w->status = pith_out_patch(w->out, 0, head, sizeof head);
    if (w->status == PITH_OK) return pith_out_close(w->out);
    pith_out_discard(w->out);
    return w->status;
}

pith_status pith_trainer_save(pith_trainer *t)
{
    static const uint8_t no_head[HEAD];
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    walk w = {.writes = true, .hash = &hash};
    if (pith_group_leads(t->set.group)) w.status = pith_out_open(t->ctx, t->set.checkpoint, &w.out);
    if (w.out && w.status == PITH_OK) w.status = pith_out_write(w.out, no_head, sizeof no_head);
    pith_status status = pass_all(&w, t, t->history.n_points); /* whether or not the file could be opened: the others take part */
    if (w.status == PITH_OK) w.status = status;
    return w.out ? finish(&w, t) : w.status;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static pith_status check_head(pith_trainer *t, const pith_map *map)
{
    const char *path = t->set.checkpoint;
    if (map->len < HEAD || memcmp(map->data, magic, sizeof magic) != 0) return pith_fail(t->ctx, PITH_E_FORMAT, "%s: is not a checkpoint of a training run; name another file, or remove it", path);
    uint64_t len = pith_le64(map->data + 16);
    if (len != map->len - HEAD) return pith_fail(t->ctx, PITH_E_CORRUPT, "%s: has %zu bytes after its head, which says %llu; remove it to start anew", path, map->len - HEAD, (unsigned long long)len);
    if (pith_hash(map->data + HEAD, map->len - HEAD) != pith_le64(map->data + 24)) return pith_fail(t->ctx, PITH_E_CORRUPT, "%s: is damaged, its checksum differs; remove it to start anew", path);
    if (pith_le64(map->data + 8) == pith_trainer_identity(t)) return PITH_OK;
    senders theirs = {.text = ""}, ours = senders_of(t);
    if (map->len >= HEAD + sizeof theirs) memcpy(&theirs, map->data + map->len - sizeof theirs, sizeof theirs);
    theirs.text[sizeof theirs.text - 1] = 0;
    bool compressed = !memcmp(theirs.magic, ours.magic, sizeof ours.magic);
    if (compressed != t->compresses || (compressed && strcmp(theirs.text, ours.text)))
        return pith_fail(t->ctx, PITH_E_ARGUMENT, "%s: was made by %s, and this run has %s; run it in the same way, name another file, or remove it to start anew", path,
                         compressed ? theirs.text : PLAIN, t->compresses ? ours.text : PLAIN);
    return pith_fail(t->ctx, PITH_E_ARGUMENT, "%s: belongs to another run, with other settings, data or parameters; name another file, or remove it to start anew", path);
}

static pith_status load(pith_trainer *t, const pith_map *map)
{
    PITH_TRY(check_head(t, map));
    walk w = {.data = map->data + HEAD, .left = map->len - HEAD};
    uint64_t n_points = w.left >= 24 ? pith_le64(w.data) : 0, n_terms = w.left >= 24 ? pith_le64(w.data + 8) : 0, n_figures = w.left >= 24 ? pith_le64(w.data + 16) : 0;
    bool sane = n_points <= w.left / sizeof *t->points && n_terms <= PITH_TRAIN_MAX_NOTES && n_figures <= PITH_TRAIN_MAX_NOTES;
    bool fits = sane && pass_all(&w, t, n_points) == PITH_OK && !w.left;
    if (!fits) return pith_fail(t->ctx, PITH_E_CORRUPT, "%s: does not hold what its head promises; remove it to start anew", t->set.checkpoint);
    PITH_TRY(pith_trainer_grow(t, (size_t)n_points));
    w = (walk){.data = map->data + HEAD, .left = map->len - HEAD, .store = true};
    return pass_all(&w, t, n_points);
}

/* Remove what killed processes left beside the checkpoint while they wrote one: <name>.<process>.partial
 * (pith_out_open), where no such process runs here. */
static void remove_leftovers(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t len = strlen(name);
    char *folder = slash ? strndup(path, PITH_MAX((size_t)(slash - path), (size_t)1)) : strdup("."); /* "/" stays */
    DIR *dir = folder ? opendir(folder) : NULL;
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        char *end;
        if (strncmp(e->d_name, name, len) != 0 || e->d_name[len] != '.') continue;
        long pid = strtol(e->d_name + len + 1, &end, 10);
        if (pid > 0 && strcmp(end, ".partial") == 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH) unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir) closedir(dir);
    free(folder);
}

pith_status pith_trainer_load(pith_trainer *t, bool *found)
{
    struct stat st;
    *found = false;
    remove_leftovers(t->set.checkpoint);
    if (stat(t->set.checkpoint, &st) != 0) {
        if (errno == ENOENT) return PITH_OK;
        return pith_fail(t->ctx, PITH_E_IO, "%s: %s", t->set.checkpoint, strerror(errno));
    }
    pith_map map;
    PITH_TRY(pith_map_open(t->ctx, t->set.checkpoint, &map));
    pith_status status = load(t, &map);
    pith_map_close(t->ctx, &map);
    *found = status == PITH_OK;
    return status;
}
