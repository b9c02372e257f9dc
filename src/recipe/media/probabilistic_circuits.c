/* probabilistic-circuits: grey images coded without loss by hidden Chow-Liu trees, and beside them by image formats, by pixels
 * taken one by one, and by networks.  arXiv:2111.11632.
 *
 * A row is <images>_<method>: "digits_k16".  Images: digits, patches, and `centre`, the 14 x 14 middle of digits.  Methods: k and
 * the number of states; pixels (one state: no pixel knows of another); png, webp; cnn; vae; tree (structure only: what coding would
 * take); flow: a circuit of 16 states over the latents of a flow of integers, with a second row <images>_logistic for the
 * distributions that the flow was trained under. */
#include <stdlib.h>

#include "recipe/media/pixel_nets.h"
#include "recipe/media/sheets.h"
#include "recipe/train_card.h"
#include "stream/codec/circuit.h"

typedef struct settings {
    pith_names runs, digits, patches;
    const char *vae_settings;
    uint64_t n_digits, n_patches, held_out, sheet, batch, first_epochs, last_epochs, rounds, cnn_width, cnn_blocks, cnn_coded, flow_width;
    double pseudocount;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: images (digits, patches, centre) and method (k16, pixels, tree, png, webp, cnn, vae, flow)"},
    {"digits", PITH_KEY_NAMES, offsetof(settings, digits), .required = true, .help = "data sets of images, made grey; the first that is there is used"},
    {"patches", PITH_KEY_NAMES, offsetof(settings, patches), .required = true, .help = "the same"},
    {"n_digits", PITH_KEY_COUNT, offsetof(settings, n_digits), .required = true, .min = 1, .max = 1e7, .help = "to learn from"},
    {"n_patches", PITH_KEY_COUNT, offsetof(settings, n_patches), .required = true, .min = 1, .max = 1e7, .help = "the same"},
    {"held_out", PITH_KEY_COUNT, offsetof(settings, held_out), .required = true, .min = 1, .max = 1e7, .help = "of each to code"},
    {"sheet", PITH_KEY_COUNT, offsetof(settings, sheet), .required = true, .min = 1, .max = 100, .help = "PNG and WebP: images in a row and in a column of a file"},
    {"batch", PITH_KEY_COUNT, offsetof(settings, batch), .required = true, .min = 1, .max = 1e6, .help = "images of a step of EM"},
    {"first_epochs", PITH_KEY_COUNT, offsetof(settings, first_epochs), .required = true, .max = 1e6, .help = "with momentum 0.2 to 0.9"},
    {"last_epochs", PITH_KEY_COUNT, offsetof(settings, last_epochs), .required = true, .max = 1e6, .help = "with momentum 0.9 to 0.95"},
    {"rounds", PITH_KEY_COUNT, offsetof(settings, rounds), .required = true, .max = 1e6, .help = "over all images, without momentum"},
    {"pseudocount", PITH_KEY_NUMBER, offsetof(settings, pseudocount), .required = true, .max = 1e6, .help = "of each distribution"},
    {"cnn_width", PITH_KEY_COUNT, offsetof(settings, cnn_width), .required = true, .min = 1, .max = 1024, .help = "channels of the CNN"},
    {"cnn_blocks", PITH_KEY_COUNT, offsetof(settings, cnn_blocks), .required = true, .min = 1, .max = 100, .help = "of two convolutions"},
    {"cnn_coded", PITH_KEY_COUNT, offsetof(settings, cnn_coded), .required = true, .min = 1, .max = 1000, .help = "images that the CNN writes and reads"},
    {"flow_width", PITH_KEY_COUNT, offsetof(settings, flow_width), .required = true, .min = 1, .max = 1024, .help = "channels within a coupling of the flow"},
    {"vae_settings", PITH_KEY_TEXT, offsetof(settings, vae_settings), .help = "JSON object of the network's settings that differ"},
    {0},
};

#define TREE_SHIFT 4               /* the tree looks at 16 levels of grey */
#define CENTRE 14
#define USUAL_STATES 16            /* of rows that name no number */

/* ---- images ------------------------------------------------------------------------------------ */

enum { DIGITS, PATCHES, CENTRES, N_KINDS };
static const char *const kind_names[N_KINDS] = {"digits", "patches", "centre"};

/* One kind's training and test images; empty until a row needs them. */
typedef struct images {
    pith_pixels pixels;
    uint8_t *train, *test;         /* pixels' own */
} images;

/* The field's images as grey [n, height, width]: the mean of colours by their share of brightness (ITU-R BT.601). */
static pith_status make_grey(pith_run *run, const pith_dataset *ds, uint8_t **grey, size_t *height, size_t *width)
{
    const pith_field *f = pith_dataset_field(ds, "image");
    if (!f || f->type != PITH_FIELD_U8 || f->n_dims != 3 || (f->dims[0] != 1 && f->dims[0] != 3))
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has no grey or colour images; name another in the card's settings", ds->name);
    size_t area = f->dims[1] * f->dims[2];
    if (!(*grey = pith_array(run->ctx, ds->n, area))) return PITH_E_MEMORY;
    for (size_t k = 0; k < ds->n; k++) {
        const uint8_t *p = pith_field_item(f, k);
        uint8_t *y = *grey + k * area;
        for (size_t i = 0; i < area; i++)
            y[i] = f->dims[0] == 1 ? p[i] : (uint8_t)((77 * p[i] + 150 * p[area + i] + 29 * p[2 * area + i] + 128) >> 8);
    }
    *height = f->dims[1], *width = f->dims[2];
    return PITH_OK;
}

static pith_status open_split(pith_run *run, const pith_names *names, const char *split, size_t n, uint8_t **grey, size_t *n_items, size_t *height, size_t *width)
{
    pith_dataset *ds;
    PITH_TRY(pith_run_data(run, names, split, &(pith_dataset_options){.n = n}, &ds));
    *n_items = PITH_MIN(n, ds->n);
    pith_status status = make_grey(run, ds, grey, height, width);
    pith_dataset_free(ds);
    return status;
}

/* The middle of each image, in place. */
static void cut_centres(uint8_t *x, size_t n, size_t height, size_t width)
{
    uint8_t *to = x;
    for (size_t k = 0; k < n; k++)
        for (size_t y = 0; y < CENTRE; y++, to += CENTRE)
            memmove(to, x + (k * height + y + (height - CENTRE) / 2) * width + (width - CENTRE) / 2, CENTRE);
}

static pith_status open_images(pith_run *run, int kind, images *im)
{
    const settings *s = run->card->settings;
    const pith_names *names = kind == PATCHES ? &s->patches : &s->digits;
    pith_pixels *p = &im->pixels;
    size_t height, width;
    if (im->train) return PITH_OK;
    PITH_TRY(open_split(run, names, "test", s->held_out, &im->test, &p->n_test, &p->height, &p->width));
    PITH_TRY(open_split(run, names, "train", kind == PATCHES ? s->n_patches : s->n_digits, &im->train, &p->n_train, &height, &width));
    if (height != p->height || width != p->width || height < CENTRE || width < CENTRE)
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "images to learn from have %zu x %zu pixels and those to code %zu x %zu: they must be alike, and at least %d a side", height, width, p->height, p->width, CENTRE);
    if (kind == CENTRES) {
        cut_centres(im->test, p->n_test, height, width);
        cut_centres(im->train, p->n_train, height, width);
        p->height = p->width = CENTRE;
    }
    p->train = im->train, p->test = im->test;
    return PITH_OK;
}

/* ---- rows -------------------------------------------------------------------------------------- */

static double n_values(const pith_pixels *p) { return (double)p->n_test * (double)(p->height * p->width); }

static pith_status run_files(pith_run *run, const char *row, const pith_pixels *p, bool webp)
{
    const settings *s = run->card->settings;
    pith_sheets sheets = {.x = p->test, .n = p->n_test, .height = p->height, .width = p->width, .columns = s->sheet};
    uint64_t len;
    bool there = true;
    double start = pith_now_s();
    PITH_TRY(webp ? pith_sheets_webp(run->ctx, &sheets, &there, &len) : pith_sheets_png(run->ctx, &sheets, &len));
    if (!there) return pith_run_note(run, "there is no row %s: %s", row, pith_error(run->ctx));
    PITH_TRY(pith_run_row(run, row, "encode_ms", (pith_now_s() - start) / (double)p->n_test * 1e3));
    return pith_run_row(run, row, "bpd", 8 * (double)len / n_values(p));
}

/* Steps up and down against whole passes, the last sums over states counted in both. */
static pith_status report_work(pith_run *run, const char *row, const pith_circuit *c)
{
    pith_circuit_work w;
    PITH_TRY(pith_circuit_count(c, &w));
    return pith_run_row(run, row, "work", (double)(w.kept + w.last) / (double)(w.again + w.last));
}

/* flow: what the images came through before, which counts too; NULL: nothing. */
static pith_status code(pith_run *run, const char *row, const pith_pixels *p, const pith_circuit *c, const pith_pixel_figures *flow)
{
    const pith_pixel_figures none = {.same = true}, *before = flow ? flow : &none;
    pith_ctx *ctx = run->ctx;
    uint8_t *file = NULL, *back = NULL;
    size_t len, n_back;
    double *log2_p = pith_array(ctx, p->n_test, sizeof *log2_p), ideal = 0;
    pith_status status = log2_p ? pith_circuit_log2(c, p->test, NULL, p->n_test, log2_p) : PITH_E_MEMORY;
    for (size_t k = 0; k < p->n_test && status == PITH_OK; k++) ideal -= log2_p[k];
    double start = pith_now_s(), wrote = 0, read = 0;
    if (status == PITH_OK) status = pith_circuit_encode(c, p->test, p->n_test, &file, &len);
    wrote = pith_now_s();
    if (status == PITH_OK) status = pith_circuit_decode(c, file, len, &back, &n_back);
    read = pith_now_s();
    if (status == PITH_OK) {
        bool same = before->same && n_back == p->n_test && !memcmp(back, p->test, n_back * c->n);
        const struct { const char *measure; double value; } values[] = {
            {"bpd", 8 * (double)len / n_values(p)}, {"ideal", ideal / n_values(p)}, {"over", (double)len - 1.01 * ideal / 8}, {"same", same},
            {"encode_ms", ((wrote - start) / (double)p->n_test + before->encode_s) * 1e3}, {"decode_ms", ((read - wrote) / (double)p->n_test + before->decode_s) * 1e3},
            {"parameters", (double)c->n * (double)(c->n_states * (c->n_states + c->n_values)) + before->parameters}};
        for (size_t i = 0; i < PITH_COUNT(values) && status == PITH_OK; i++) status = pith_run_row(run, row, values[i].measure, values[i].value);
    }
    pith_free(ctx, back);
    pith_free(ctx, file);
    pith_free(ctx, log2_p);
    return status;
}

static pith_status run_circuit(pith_run *run, const char *row, const pith_pixels *p, size_t n_states, bool tree_only, const pith_pixel_figures *flow)
{
    const settings *s = run->card->settings;
    pith_circuit_options o = {.n_states = n_states, .tree_shift = TREE_SHIFT, .seed = run->seed};
    pith_circuit_training t = {.batch = s->batch, .epochs = {s->first_epochs, s->last_epochs}, .momentum = {0.2, 0.9, 0.95}, .rounds = s->rounds,
                               .pseudocount = s->pseudocount, .seed = run->seed};
    pith_circuit *c;
    if (n_states == 1) t.epochs[0] = t.epochs[1] = 0, t.rounds = 1; /* one round is all there is to learn */
    PITH_TRY(pith_circuit_new(run->ctx, p->train, p->n_train, p->height * p->width, &o, &c));
    double start = pith_now_s();
    pith_status status = tree_only ? PITH_OK : pith_circuit_learn(c, p->train, p->n_train, &t);
    if (status == PITH_OK && !tree_only) status = pith_run_row(run, row, "learn_s", pith_now_s() - start + (flow ? flow->learn_s : 0));
    if (status == PITH_OK && !tree_only) status = code(run, row, p, c, flow);
    if (status == PITH_OK) status = report_work(run, row, c);
    pith_circuit_free(c);
    return status;
}

static pith_status run_net(pith_run *run, const char *row, const pith_pixels *p, bool cnn)
{
    const settings *s = run->card->settings;
    pith_pixel_figures f;
    PITH_TRY(cnn ? pith_pixel_cnn(run, p, s->cnn_width, s->cnn_blocks, s->cnn_coded, &f) : pith_pixel_vae(run, p, s->vae_settings, &f));
    PITH_TRY(pith_run_row(run, row, "learn_s", f.learn_s));
    PITH_TRY(pith_run_row(run, row, "ideal", f.ideal));
    PITH_TRY(pith_run_row(run, row, "parameters", f.parameters));
    if (!cnn) return PITH_OK;
    PITH_TRY(pith_run_row(run, row, "bpd", f.bits));
    PITH_TRY(pith_run_row(run, row, "same", f.same));
    PITH_TRY(pith_run_row(run, row, "encode_ms", f.encode_s * 1e3));
    return pith_run_row(run, row, "decode_ms", f.decode_s * 1e3);
}

/* Latents lie in fours where their pixels did not, but to a circuit variables have no places. */
static pith_status run_flow(pith_run *run, const char *row, const pith_pixels *p)
{
    const settings *s = run->card->settings;
    char logistic[64];
    pith_pixels latents = *p;
    pith_pixel_figures f;
    uint8_t *train, *test;
    const char *line = strchr(row, '_');
    snprintf(logistic, sizeof logistic, "%.*s_logistic", (int)(line - row), row);
    PITH_TRY(pith_pixel_flow(run, p, s->flow_width, &train, &test, &f));
    latents.train = train, latents.test = test;
    pith_status status = pith_run_row(run, logistic, "ideal", f.ideal);
    if (status == PITH_OK) status = pith_run_row(run, logistic, "same", f.same);
    if (status == PITH_OK) status = pith_run_row(run, logistic, "learn_s", f.learn_s);
    if (status == PITH_OK) status = pith_run_row(run, logistic, "parameters", f.parameters);
    if (status == PITH_OK) status = run_circuit(run, row, &latents, USUAL_STATES, false, &f);
    pith_free(run->ctx, test);
    pith_free(run->ctx, train);
    return status;
}

/* What all rows share. */
typedef struct study {
    pith_run *run;
    images *all;                   /* [N_KINDS] */
} study;

static pith_status run_row(void *user, const char *row)
{
    const study *st = user;
    pith_run *run = st->run;
    const char *method = strchr(row, '_');
    int kind = 0;
    while (kind < N_KINDS && !(method && strlen(kind_names[kind]) == (size_t)(method - row) && !strncmp(row, kind_names[kind], (size_t)(method - row)))) kind++;
    method = method ? method + 1 : "";
    char *end = NULL;
    unsigned long n_states = *method == 'k' ? strtoul(method + 1, &end, 10) : 0;
    bool circuit = n_states >= 1 && n_states <= PITH_CIRCUIT_MAX_STATES && *end == 0, pixels = !strcmp(method, "pixels"), tree = !strcmp(method, "tree");
    bool png = !strcmp(method, "png"), webp = !strcmp(method, "webp"), cnn = !strcmp(method, "cnn"), vae = !strcmp(method, "vae"), flow = !strcmp(method, "flow");
    if (kind == N_KINDS || !(circuit || pixels || tree || png || webp || cnn || vae || flow))
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is no row: digits, patches or centre, '_', and k with 1 to %d states (k16), pixels, tree, png, webp, cnn, vae or flow", run->card->file, row, PITH_CIRCUIT_MAX_STATES);
    PITH_TRY(open_images(run, kind, &st->all[kind]));
    const pith_pixels *p = &st->all[kind].pixels;
    if (png || webp) return run_files(run, row, p, webp);
    if (cnn || vae) return run_net(run, row, p, cnn);
    if (flow) return run_flow(run, row, p);
    return run_circuit(run, row, p, circuit ? n_states : pixels ? 1 : USUAL_STATES, tree, NULL);
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    images all[N_KINDS] = {0};
    pith_status status = pith_run_each(run, &s->runs, run_row, &(study){run, all});
    for (int k = 0; k < N_KINDS; k++) {
        pith_free(run->ctx, all[k].train);
        pith_free(run->ctx, all[k].test);
    }
    return status;
}

const pith_procedure pith_procedure_probabilistic_circuits = {"probabilistic_circuits", keys, sizeof(settings), run};
