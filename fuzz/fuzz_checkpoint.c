/* A training run goes on from a checkpoint that was tampered with.  The input is edits of a whole one: each an offset (2 bytes) and a
 * byte: below 128, its low bits + 1 bytes follow that are written there; from 128 on, the file ends at the offset, and what it
 * lacks there is zeros.  Bit 0 of the first byte: length and checksum in the head are made to fit, so that all of it is read. */
#include <unistd.h>

#include "fuzz.h"
#include "train/trainer.h"

enum { HEAD = 32, N_STEPS = 4, MOST = 1 << 16 };

static char path[64];
static uint8_t whole[MOST];
static size_t whole_len;

typedef struct run {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_trainer *trainer;
    pith_var *w;
    float kept[3];
    uint64_t n_losses, cancel_after;
} run;

static bool cancelled(void *user)
{
    const run *r = user;
    return r->cancel_after && r->n_losses >= r->cancel_after;
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    static const float x[4] = {1, 2, -1, 0.5f}, y[2] = {1, -1};
    run *r = user;
    r->n_losses++;
    pith_var *out = pith_var_linear(pith_tape_input(tape, x, PITH_DIMS(2, 2)), r->w, NULL);
    return pith_train_term(at, "mse", pith_var_mse(out, pith_tape_input(tape, y, PITH_DIMS(2, 1))));
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    const run *r = user;
    (void)tape;
    pith_train_note(at, "size", (double)(r->w->data[0] * r->w->data[0]));
    return PITH_OK;
}

static void open_run(run *r, uint64_t cancel_after)
{
    *r = (run){.cancel_after = cancel_after};
    pith_options options = {.n_threads = 1, .memory_limit = (size_t)64 << 20, .cancelled = cancelled, .user = r};
    require(pith_ctx_new(&options, &r->ctx) == PITH_OK && pith_tape_new(r->ctx, 5, &r->tape) == PITH_OK);
    r->w = pith_tape_param(r->tape, "w", PITH_DIMS(1, 2));
    require(r->w != NULL);
    r->w->data[0] = 0.5f;
    pith_train_options o = {.n_steps = N_STEPS, .log_every = 1, .evaluate_every = 1, .checkpoint = path, .evaluate = evaluate, .watch = "size", .patience = 100, .restore_best = true, .user = r};
    pith_train_role role = {.optimizer = {.kind = PITH_ADAMW, .ema = 0.9f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f}, .schedule = {.rate = 0.01f}, .loss = loss};
    require(pith_trainer_new(r->tape, &o, &role, 1, &r->trainer) == PITH_OK);
    require(pith_trainer_keep(r->trainer, "kept", r->kept, sizeof r->kept) == PITH_OK);
}

static void close_run(run *r)
{
    pith_trainer_free(r->trainer);
    pith_tape_free(r->tape);
    pith_ctx_free(r->ctx);
}

static void remove_file(void) { unlink(path); }

/* The checkpoint of a run that was stopped halfway. */
static void make_whole(void)
{
    snprintf(path, sizeof path, "%s/pith-fuzz-checkpoint-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    atexit(remove_file);
    remove_file();
    run r;
    open_run(&r, 2);
    require(pith_trainer_run(r.trainer, NULL) == PITH_E_CANCELLED);
    close_run(&r);
    FILE *f = fopen(path, "rb");
    require(f != NULL);
    whole_len = fread(whole, 1, MOST, f);
    fclose(f);
    require(whole_len > HEAD && whole_len < MOST);
}

static void write_edited(const uint8_t *data, size_t len)
{
    static uint8_t bytes[MOST];
    size_t n = whole_len;
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, whole, whole_len);
    for (size_t at = 1; at + 3 <= len;) {
        size_t offset = pith_le16(data + at), op = data[at + 2];
        at += 3;
        if (op >= 128) {
            n = offset;
            continue;
        }
        for (size_t k = 0; k <= op % 8 && at < len; k++, at++)
            if (offset + k < n) bytes[offset + k] = data[at];
    }
    if (data[0] & 1 && n >= HEAD) {
        pith_put64(bytes + 16, n - HEAD);
        pith_put64(bytes + 24, pith_hash(bytes + HEAD, n - HEAD));
    }
    FILE *f = fopen(path, "wb");
    require(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!whole_len) make_whole();
    if (len == 0) return 0;
    write_edited(data, len);
    run r;
    open_run(&r, 0);
    pith_train_result result;
    pith_status status = pith_trainer_run(r.trainer, &result);
    require(status == PITH_OK || pith_error(r.ctx)[0]);
    const pith_train_history *h = pith_trainer_history(r.trainer);
    require(h->n_terms <= PITH_TRAIN_MAX_NOTES && h->n_figures <= PITH_TRAIN_MAX_NOTES);
    for (size_t i = 0; i < h->n_terms; i++) require(strlen(h->term[i]) < PITH_TRAIN_NAME);
    if (len == 1 && data[0] & 1) require(status == PITH_OK && result.resumed_from == 2 && result.n_steps == N_STEPS); /* nothing was edited */
    close_run(&r);
    return 0;
}
