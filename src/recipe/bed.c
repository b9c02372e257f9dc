/* Beds: networks that cards start from, trained once and kept in the cache.
 *
 * A bed is a folder <id>-<hash>; bed.json in it says what was measured.  It is made in <id>-<hash>.part beside it and
 * renamed when it is done, under a lock, so that of two processes that want it one trains and the other waits; what
 * an interrupted training left in .part is there for its procedure to go on from. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "format/json.h"
#include "recipe/run.h"

#define RESULT "bed.json"

static bool is_trained(pith_ctx *ctx, const char *folder)
{
    char *file = pith_format(ctx, "%s/" RESULT, folder);
    bool there = file && access(file, R_OK) == 0;
    pith_free(ctx, file);
    return there;
}

pith_status pith_bed_path(pith_ctx *ctx, const pith_card *card, uint64_t seed, char **path, bool *there)
{
    uint64_t hash;
    char *cache;
    PITH_TRY(pith_run_hash(ctx, card, seed, &hash));
    PITH_TRY(pith_cache_path(ctx, "beds", &cache));
    *path = pith_format(ctx, "%s/%s-%016llx", cache, card->id, (unsigned long long)hash);
    pith_free(ctx, cache);
    if (!*path) return PITH_E_MEMORY;
    *there = is_trained(ctx, *path);
    return PITH_OK;
}

/* ---- bed.json --------------------------------------------------------------------------------- */

static const char *const workers_keys[3] = {"n_workers", "sent_bytes_per_step", "dense_bytes_per_step"};

static bool add_workers(cJSON *json, const pith_workers *w)
{
    const double values[3] = {(double)w->n, w->sent_bytes, w->dense_bytes};
    bool ok = cJSON_AddStringToObject(json, "compress", w->how);
    for (size_t i = 0; i < 3 && ok; i++) ok = cJSON_AddNumberToObject(json, workers_keys[i], values[i]);
    return ok;
}

static pith_status write_result(const pith_run *run, double seconds)
{
    cJSON *json = pith_run_json(run, seconds);
    if (json && run->workers.n && !add_workers(json, &run->workers)) {
        cJSON_Delete(json);
        json = NULL;
    }
    char *file = pith_format(run->ctx, "%s/" RESULT, run->folder);
    pith_status status = json && file ? pith_json_write(run->ctx, file, json) : PITH_E_MEMORY;
    pith_free(run->ctx, file);
    cJSON_Delete(json);
    return status;
}

static pith_status read_result(const pith_bed *bed, cJSON **json)
{
    char *file = pith_format(bed->ctx, "%s/" RESULT, bed->folder);
    if (!file) return PITH_E_MEMORY;
    pith_status status = pith_json_read(bed->ctx, file, json);
    pith_free(bed->ctx, file);
    return status;
}

pith_status pith_bed_value(const pith_bed *bed, const char *row, const char *measure, double *value)
{
    cJSON *json;
    PITH_TRY(read_result(bed, &json));
    const cJSON *v = pith_json_get(pith_json_get(pith_json_get(json, "rows"), row), measure);
    pith_status status = PITH_OK;
    if (cJSON_IsNumber(v)) *value = v->valuedouble;
    else status = pith_fail(bed->ctx, PITH_E_ARGUMENT, "%s: the bed '%s' measured no %s.%s", bed->folder, bed->card->id, row, measure);
    cJSON_Delete(json);
    return status;
}

pith_status pith_bed_workers(const pith_bed *bed, pith_workers *w)
{
    cJSON *json;
    double values[3] = {0};
    *w = (pith_workers){0};
    PITH_TRY(read_result(bed, &json));
    const cJSON *how = pith_json_get(json, "compress");
    if (cJSON_IsString(how)) snprintf(w->how, sizeof w->how, "%s", how->valuestring);
    for (size_t i = 0; i < 3; i++) {
        const cJSON *v = pith_json_get(json, workers_keys[i]);
        if (cJSON_IsNumber(v)) values[i] = v->valuedouble;
    }
    cJSON_Delete(json);
    if (values[0] == 0) return PITH_OK; /* nobody shared it */
    bool sane = values[0] >= 2 && values[0] <= 65536 && values[1] >= 0 && values[1] <= 1e18 && values[2] > 0 && values[2] <= 1e18;
    if (!sane) return pith_fail(bed->ctx, PITH_E_CORRUPT, "%s/" RESULT ": no sensible numbers of what workers sent; remove the folder to train it anew", bed->folder);
    w->n = (size_t)values[0];
    w->sent_bytes = values[1];
    w->dense_bytes = values[2];
    return PITH_OK;
}

pith_status pith_bed_notes(const pith_bed *bed, cJSON **notes)
{
    cJSON *json;
    PITH_TRY(read_result(bed, &json));
    *notes = cJSON_DetachItemFromObjectCaseSensitive(json, "notes");
    cJSON_Delete(json);
    if (cJSON_IsArray(*notes)) return PITH_OK;
    cJSON_Delete(*notes);
    return pith_fail(bed->ctx, PITH_E_CORRUPT, "%s/" RESULT ": no list of notes; remove the folder to train it anew", bed->folder);
}

pith_status pith_bed_net(const pith_bed *bed, pith_tape *tape, pith_net **net)
{
    char *file = pith_format(bed->ctx, "%s/net.safetensors", bed->folder);
    pith_status status = file ? pith_net_open(tape, file, net) : PITH_E_MEMORY;
    pith_free(bed->ctx, file);
    return status;
}

/* ---- training --------------------------------------------------------------------------------- */

/* For whom a bed is trained. */
typedef struct audience {
    const pith_run *parent;        /* NULL: nobody's run */
    void (*observe)(void *user, const pith_train_history *history);
    void *user;
    pith_group *group;             /* processes that share the training; NULL: this one alone */
} audience;

/* All processes of a group go on together, or none does. */
static pith_status agree(const audience *who, pith_status mine) { return who->group ? pith_group_agree(who->group, mine) : mine; }

static pith_status train(pith_bed *bed, const char *part, audience who)
{
    pith_ctx *ctx = bed->ctx;
    pith_run run = {.ctx = ctx, .card = bed->card, .seed = bed->seed, .quick = bed->card->quick, .folder = part, .parent = who.parent, .observe = who.observe, .observe_user = who.user, .group = who.group};
    char about[48] = "";
    if (!run.quick) snprintf(about, sizeof about, ", about %.3g min", bed->card->minutes); /* which quick runs do not take */
    pith_log(ctx, PITH_LOG_INFO, "training the bed %s%s, seed %llu%s", bed->card->id, run.quick ? " (quick)" : "", (unsigned long long)bed->seed, about);
    double start = pith_now_s();
    bool leads = pith_group_leads(who.group);
    pith_status status = agree(&who, leads ? pith_folder_make(ctx, part) : PITH_OK);
    if (status == PITH_OK) status = bed->card->procedure->run(&run);
    if (status == PITH_OK && leads) status = write_result(&run, pith_now_s() - start);
    status = agree(&who, status); /* nobody reads the checkpoint's folder any more */
    if (status == PITH_OK && leads && rename(part, bed->folder) != 0)
        status = pith_fail(ctx, PITH_E_IO, "%s: cannot put the trained bed in place: %s", bed->folder, strerror(errno));
    pith_run_clear(&run);
    return agree(&who, status);
}

static pith_status make_cache(pith_ctx *ctx)
{
    char *cache;
    PITH_TRY(pith_cache_path(ctx, "beds", &cache));
    pith_status status = pith_folder_make(ctx, cache);
    pith_free(ctx, cache);
    return status;
}

/* Under the lock: somebody else may have trained it while we waited. */
static pith_status train_once(pith_bed *bed, audience who)
{
    pith_ctx *ctx = bed->ctx;
    char *lock = pith_format(ctx, "%s.lock", bed->folder), *part = pith_format(ctx, "%s.part", bed->folder);
    bool leads = pith_group_leads(who.group);
    pith_status status = !lock || !part ? PITH_E_MEMORY : leads ? make_cache(ctx) : PITH_OK;
    int fd = status == PITH_OK && leads ? open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (status == PITH_OK && leads && fd < 0) status = pith_fail(ctx, PITH_E_IO, "%s: %s", lock, strerror(errno));
    while (status == PITH_OK && leads && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) status = pith_fail(ctx, PITH_E_IO, "%s: cannot lock: %s", lock, strerror(errno));
        else if ((status = pith_progress(ctx, "waiting for another process that trains this bed", 0, 1)) == PITH_OK) usleep(200000);
    }
    bed->was_cached = status == PITH_OK && is_trained(ctx, bed->folder);
    status = agree(&who, status);
    if (status == PITH_OK && who.group) status = pith_group_broadcast(who.group, &bed->was_cached, sizeof bed->was_cached); /* the leader has the lock */
    if (status == PITH_OK && !bed->was_cached) status = train(bed, part, who);
    if (fd >= 0) close(fd);
    pith_free(ctx, lock);
    pith_free(ctx, part);
    return status;
}

static pith_status open_for(pith_ctx *ctx, pith_card *card, uint64_t seed, audience who, pith_bed **out)
{
    pith_bed *bed = pith_calloc(ctx, 1, sizeof *bed);
    pith_status status = PITH_E_MEMORY;
    if (!bed) {
        pith_card_free(card);
        return status;
    }
    *bed = (pith_bed){.card = card, .seed = seed, .ctx = ctx};
    if (card->kind != PITH_CARD_BED) {
        status = pith_fail(ctx, PITH_E_ARGUMENT, "%s is no bed; its kind is claim", card->id);
        goto failed;
    }
    for (const pith_run *p = who.parent; p; p = p->parent) {
        if (strcmp(p->card->id, card->id)) continue;
        status = pith_fail(ctx, PITH_E_ARGUMENT, "the bed '%s' needs itself; take it out of its card's beds", card->id);
        goto failed;
    }
    PITH_GOTO(pith_bed_path(ctx, card, seed, &bed->folder, &bed->was_cached), failed);
    if (!bed->was_cached || who.group) PITH_GOTO(train_once(bed, who), failed);
    *out = bed;
    return PITH_OK;
failed:
    pith_bed_close(bed);
    return status;
}

pith_status pith_bed_train(pith_ctx *ctx, pith_card *card, uint64_t seed, pith_group *group, void (*observe)(void *user, const pith_train_history *history), void *user, pith_bed **bed)
{
    return open_for(ctx, card, seed, (audience){.observe = observe, .user = user, .group = group}, bed);
}

pith_status pith_bed_of_card(pith_ctx *ctx, pith_card *card, uint64_t seed, pith_bed **bed) { return open_for(ctx, card, seed, (audience){0}, bed); }

pith_status pith_bed_get(pith_ctx *ctx, const char *which, bool quick, uint64_t seed, pith_bed **bed)
{
    pith_card *card;
    PITH_TRY(pith_card_load(ctx, which, quick, &card));
    return open_for(ctx, card, seed, (audience){0}, bed);
}

pith_status pith_bed_open(pith_run *run, const char *id, pith_bed **out)
{
    size_t i = 0;
    while (i < run->card->beds.n && strcmp(run->card->beds.items[i], id)) i++;
    if (i == run->card->beds.n) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: its procedure needs the bed '%s'; add it to the card's beds", run->card->file, id);
    pith_card *card;
    pith_bed *bed;
    cJSON *result = NULL;
    PITH_TRY(pith_card_load(run->ctx, id, run->quick, &card));
    PITH_TRY(open_for(run->ctx, card, run->seed, (audience){.parent = run, .observe = run->observe, .user = run->observe_user}, &bed));
    pith_status status = read_result(bed, &result);
    if (status == PITH_OK) status = pith_run_take_notes(run, result, id);
    cJSON_Delete(result);
    if (status == PITH_OK) *out = bed;
    else pith_bed_close(bed);
    return status;
}

pith_status pith_bed_report(const pith_bed *bed, pith_run *run)
{
    cJSON *result = NULL;
    pith_status status = read_result(bed, &result);
    if (status == PITH_OK) status = pith_run_take(run, result);
    cJSON_Delete(result);
    return status;
}

void pith_bed_close(pith_bed *bed)
{
    if (!bed) return;
    pith_card_free(bed->card);
    pith_free(bed->ctx, bed->folder);
    pith_free(bed->ctx, bed);
}
