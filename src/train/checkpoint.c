/* A run in one file: everything that decides how it goes on.
 *
 *     0   8  "PITHRUN1"
 *     8   8  what the run is (pith_trainer_identity)
 *    16   8  length of the rest, from 32 on
 *    24   8  XXH3 of the rest
 *    32      state of the loop, names of columns, number of points, points; each parameter; for each role its
 *            optimizer's steps and arrays; kept memory; the best evaluation's copy
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
    return hash;
}

/* ---- the walk --------------------------------------------------------------------------------- */

/* Over a file being written (out), or the bytes of one being read. */
typedef struct walk {
    pith_out *out;
    XXH3_state_t *hash;
    const uint8_t *data;
    size_t left;
    bool store;                       /* reading: false measures only */
    pith_status status;
} walk;

static void pass(walk *w, void *data, size_t len)
{
    if (w->status != PITH_OK) return;
    if (w->out) {
        XXH3_64bits_update(w->hash, data, len);
        w->status = pith_out_write(w->out, data, len);
    } else if (len > w->left) {
        w->status = PITH_E_CORRUPT;
    } else {
        if (w->store && len) memcpy(data, w->data, len);
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

/* n_points: of the history being written, or what the file says, which the caller has checked. */
static void pass_all(walk *w, pith_trainer *t, uint64_t n_points)
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
    if (w->store) {
        h->n_points = (size_t)n_points;
        h->n_terms = (size_t)counts[1];
        h->n_figures = (size_t)counts[2];
        for (size_t i = 0; i < PITH_TRAIN_MAX_NOTES; i++) h->term[i][PITH_TRAIN_NAME - 1] = h->figure[i][PITH_TRAIN_NAME - 1] = 0;
    }
}

/* ---- writing ---------------------------------------------------------------------------------- */

pith_status pith_trainer_save(pith_trainer *t)
{
    pith_out *out;
    PITH_TRY(pith_out_open(t->ctx, t->set.checkpoint, &out));
    uint8_t head[HEAD] = {0};
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    walk w = {.out = out, .hash = &hash};
    w.status = pith_out_write(out, head, sizeof head);
    pass_all(&w, t, t->history.n_points);
    memcpy(head, magic, sizeof magic);
    pith_put64(head + 8, pith_trainer_identity(t));
    pith_put64(head + 16, pith_out_tell(out) - HEAD);
    pith_put64(head + 24, XXH3_64bits_digest(&hash));
    if (w.status == PITH_OK) w.status = pith_out_patch(out, 0, head, sizeof head);
    if (w.status == PITH_OK) return pith_out_close(out);
    pith_out_discard(out);
    return w.status;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static pith_status check_head(pith_trainer *t, const pith_map *map)
{
    const char *path = t->set.checkpoint;
    if (map->len < HEAD || memcmp(map->data, magic, sizeof magic) != 0) return pith_fail(t->ctx, PITH_E_FORMAT, "%s: is not a checkpoint of a training run; name another file, or remove it", path);
    uint64_t len = pith_le64(map->data + 16);
    if (len != map->len - HEAD) return pith_fail(t->ctx, PITH_E_CORRUPT, "%s: has %zu bytes after its head, which says %llu; remove it to start anew", path, map->len - HEAD, (unsigned long long)len);
    if (pith_hash(map->data + HEAD, map->len - HEAD) != pith_le64(map->data + 24)) return pith_fail(t->ctx, PITH_E_CORRUPT, "%s: is damaged, its checksum differs; remove it to start anew", path);
    if (pith_le64(map->data + 8) != pith_trainer_identity(t))
        return pith_fail(t->ctx, PITH_E_ARGUMENT, "%s: belongs to another run, with other settings, data or parameters; name another file, or remove it to start anew", path);
    return PITH_OK;
}

static pith_status load(pith_trainer *t, const pith_map *map)
{
    PITH_TRY(check_head(t, map));
    walk w = {.data = map->data + HEAD, .left = map->len - HEAD};
    uint64_t n_points = w.left >= 24 ? pith_le64(w.data) : 0, n_terms = w.left >= 24 ? pith_le64(w.data + 8) : 0, n_figures = w.left >= 24 ? pith_le64(w.data + 16) : 0;
    bool sane = n_points <= w.left / sizeof *t->points && n_terms <= PITH_TRAIN_MAX_NOTES && n_figures <= PITH_TRAIN_MAX_NOTES;
    if (sane) pass_all(&w, t, n_points);
    if (!sane || w.status != PITH_OK || w.left) return pith_fail(t->ctx, PITH_E_CORRUPT, "%s: does not hold what its head promises; remove it to start anew", t->set.checkpoint);
    PITH_TRY(pith_trainer_grow(t, (size_t)n_points));
    w = (walk){.data = map->data + HEAD, .left = map->len - HEAD, .store = true};
    pass_all(&w, t, n_points);
    return w.status;
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
