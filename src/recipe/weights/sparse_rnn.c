/* sparse-rnn: recurrent networks that tell strings of Reber's grammar, pruned after training by one threshold over all
 * chosen matrices and trained on; and networks drawn as random graphs, their accuracy against the graphs' properties.
 * After the thesis arXiv:2407.20601.
 *
 * A row is <cell>_<target>: "lstm_both" with target i2h, h2h, both or random (both, masked at random), or <cell>_dense;
 * graphs_<cell>; and property_<name> for each property of the graphs. */
#include "recipe/train_card.h"

#include <math.h>

#include "model/net.h"
#include "stage/select/graph.h"
#include "stage/select/mask.h"
#include "tensor/lapack.h"

typedef struct settings {
    pith_names cells, targets;
    pith_counts levels, shown;
    uint64_t n_strings, n_test, width, layers, dense_level, epochs, retrain_steps, n_graphs, graph_steps, graph_batch, nodes_min, nodes_max;
} settings;

static const pith_key keys[] = {
    {"cells", PITH_KEY_NAMES, offsetof(settings, cells), .required = true, .help = "tanh, relu, gru, lstm"},
    {"targets", PITH_KEY_NAMES, offsetof(settings, targets), .required = true, .help = "which matrices are masked: i2h, h2h, both, random; or dense, a narrower network"},
    {"levels", PITH_KEY_COUNTS, offsetof(settings, levels), .required = true, .min = 1, .max = 100, .help = "percent of the weights that are masked, ascending"},
    {"shown", PITH_KEY_COUNTS, offsetof(settings, shown), .required = true, .min = 1, .max = 100, .help = "levels whose figures are measures of their own, among `levels`"},
    {"n_strings", PITH_KEY_COUNT, offsetof(settings, n_strings), .required = true, .min = 10, .max = 1e7, .help = "to train on"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 10, .max = 1e7, .help = "to measure on"},
    {"width", PITH_KEY_COUNT, offsetof(settings, width), .required = true, .min = 1, .max = 1024, .help = "of states and embeddings"},
    {"layers", PITH_KEY_COUNT, offsetof(settings, layers), .required = true, .min = 1, .max = 16, .help = "recurrent ones"},
    {"dense_level", PITH_KEY_COUNT, offsetof(settings, dense_level), .required = true, .min = 1, .max = 99, .help = "the narrower network has as many parameters as this level leaves"},
    {"epochs", PITH_KEY_COUNT, offsetof(settings, epochs), .required = true, .min = 1, .max = 1000, .help = "of retraining, each followed by a measurement"},
    {"retrain_steps", PITH_KEY_STEPS, offsetof(settings, retrain_steps), .required = true, .min = 1, .max = 1e7, .help = "of all these epochs together"},
    {"n_graphs", PITH_KEY_COUNT, offsetof(settings, n_graphs), .required = true, .max = 100000, .help = "of each cell, rings and growing ones in turn; the last quarter is held out from the regression; 0: none"},
    {"graph_steps", PITH_KEY_STEPS, offsetof(settings, graph_steps), .required = true, .min = 1, .max = 1e7, .help = "of training of each"},
    {"graph_batch", PITH_KEY_COUNT, offsetof(settings, graph_batch), .required = true, .min = 1, .max = 100000, .help = "strings of a step"},
    {"nodes_min", PITH_KEY_COUNT, offsetof(settings, nodes_min), .required = true, .min = 10, .max = 1000, .help = "of a graph"},
    {"nodes_max", PITH_KEY_COUNT, offsetof(settings, nodes_max), .required = true, .min = 10, .max = 1000, .help = "of a graph"},
    {0},
};

enum { I2H, H2H, BOTH, RANDOM, DENSE, N_TARGETS };
static const char *const target_names[N_TARGETS] = {"i2h", "h2h", "both", "random", "dense"};
static const char *const cell_names[] = {[PITH_CELL_TANH] = "tanh", [PITH_CELL_RELU] = "relu", [PITH_CELL_LSTM] = "lstm", [PITH_CELL_GRU] = "gru"};
enum { N_CELLS = PITH_COUNT(cell_names), N_SYMBOLS = 8 };

#define TOLERANCE 0.01             /* accuracy that counts as kept */
#define TEST_BATCH 256

/* ---- strings ---------------------------------------------------------------------------------- */

typedef struct study {
    pith_run *run;
    pith_dataset *train, *test;
    size_t length;                 /* of a padded string */
} study;

static const settings *settings_of(const study *st) { return st->run->card->settings; }

/* Anything that reads strings: ids [n, length] with n_tokens [n] -> logits [n, 2]. */
typedef struct reader {
    study *study;
    pith_tape *tape;
    pith_loader *loader;
    pith_var *(*forward)(struct reader *r, const int32_t *ids, const int32_t *n_tokens, size_t n);
    /* while retraining */
    double *accuracy;              /* [epochs] after each; NULL: not wanted */
    size_t n_measured, n_epochs;
} reader;

static pith_var *logits_of(reader *r, const pith_dataset *ds, const pith_batch *b, int32_t **label)
{
    const int32_t *length = pith_dataset_field(ds, "length")->data;
    int32_t *n_tokens = pith_op_attr(r->tape, 2 * b->n, sizeof *n_tokens);
    if (!n_tokens) return NULL;
    *label = n_tokens + b->n;
    for (size_t i = 0; i < b->n; i++) {
        n_tokens[i] = length[b->items[i]];
        (*label)[i] = b->y[i];
    }
    return r->forward(r, b->ids, n_tokens, b->n);
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    reader *r = user;
    pith_batch b;
    int32_t *label;
    at->status = pith_loader_batch(r->loader, at->step * at->n_parts + at->part, &b);
    pith_var *x = at->status == PITH_OK ? logits_of(r, r->study->train, &b, &label) : NULL;
    return x ? pith_var_cross_entropy(x, label) : NULL;
}

static pith_status measure(reader *r, double *accuracy)
{
    pith_loader *loader;
    pith_loader_options o = {.batch = TEST_BATCH, .input = "tokens", .target = "label", .once = true};
    size_t right = 0;
    PITH_TRY(pith_loader_new(r->study->run->ctx, r->study->test, &o, &loader));
    pith_status status = PITH_OK;
    for (uint64_t step = 0; status == PITH_OK && step < pith_loader_steps(loader); step++) {
        pith_batch b;
        int32_t *label;
        PITH_GOTO(pith_loader_batch(loader, step, &b), done);
        pith_tape_step(r->tape, step);
        pith_tape_record(r->tape, false);
        const pith_var *x = logits_of(r, r->study->test, &b, &label);
        PITH_GOTO(pith_tape_status(r->tape), done);
        for (size_t i = 0; i < b.n; i++) right += (x->data[2 * i + 1] > x->data[2 * i]) == (label[i] == 1);
    }
    *accuracy = (double)right / (double)r->study->test->n;
done:
    pith_loader_free(loader);
    return status;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    reader *r = user;
    double accuracy;
    PITH_TRY(measure(r, &accuracy));
    pith_train_note(at, "acc", accuracy);
    if (r->n_measured < r->n_epochs) r->accuracy[r->n_measured++] = accuracy;
    return PITH_OK;
}

/* n_steps of `batch` strings; with r->accuracy a measurement after each of n_epochs parts. */
static pith_status train(reader *r, uint64_t n_steps, size_t batch)
{
    pith_train_options o = pith_run_train_options(r->study->run);
    pith_train_role role = pith_run_train_role(r->study->run);
    pith_loader_options lo = {.batch = batch, .seed = r->study->run->seed, .input = "tokens", .target = "label", .shuffle = true};
    pith_trainer *trainer = NULL;
    role.loss = loss;
    o.user = r;
    o.n_steps = n_steps;
    if (r->accuracy) {
        r->n_measured = 0;
        o.evaluate = evaluate;
        o.evaluate_every = PITH_MAX(n_steps / r->n_epochs, (uint64_t)1);
    }
    pith_status status = pith_loader_new(r->study->run->ctx, r->study->train, &lo, &r->loader);
    if (status == PITH_OK) status = pith_trainer_new(r->tape, &o, &role, 1, &trainer);
    if (status == PITH_OK) status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    pith_loader_free(r->loader);
    r->loader = NULL;
    return status;
}

/* ---- pruning ---------------------------------------------------------------------------------- */

typedef struct layered {
    reader r;
    pith_net *net;
    float *trained;                /* all parameters after the first training, one after the other */
} layered;

static pith_var *layered_forward(reader *r, const int32_t *ids, const int32_t *n_tokens, size_t n)
{
    layered *l = (layered *)r;
    return pith_net_run(l->net, &(pith_net_input){.ids = ids, .n_tokens = n_tokens, .n = n, .len = r->study->length});
}

static pith_status open_layered(study *st, pith_cell cell, size_t width, layered *l)
{
    const settings *s = settings_of(st);
    char net[160];
    *l = (layered){.r = {.study = st, .forward = layered_forward}};
    snprintf(net, sizeof net, "{\"cell\": \"%s\", \"vocab\": %d, \"in\": %zu, \"width\": %zu, \"layers\": %zu, \"output\": \"last\", \"classes\": 2}", cell_names[cell], N_SYMBOLS,
             (size_t)s->width, width, (size_t)s->layers);
    PITH_TRY(pith_tape_new(st->run->ctx, st->run->seed, &l->r.tape));
    return pith_net_new(l->r.tape, "rnn", net, st->run->seed, &l->net);
}

static void close_layered(study *st, layered *l)
{
    pith_net_free(l->net);
    pith_tape_free(l->r.tape);
    pith_free(st->run->ctx, l->trained);
}

/* Keep the parameters (back false), or take them back. */
static void move(layered *l, bool back)
{
    size_t n, at = 0;
    pith_var *const *params = pith_net_params(l->net, &n);
    for (size_t i = 0; i < n; at += params[i++]->count) {
        if (back) memcpy(params[i]->data, l->trained + at, params[i]->count * sizeof(float));
        else memcpy(l->trained + at, params[i]->data, params[i]->count * sizeof(float));
    }
}

static bool is_target(int target, const char *name)
{
    bool i2h = strstr(name, "weight_ih"), h2h = strstr(name, "weight_hh");
    return (i2h && target != H2H) || (h2h && target != I2H);
}

/* Mask `level` percent of the target's weights of the trained network; figures at once and after retraining; regain: epochs
 * until the accuracy is `base` within the tolerance, one more than there are where it never is. */
static pith_status one_level(layered *l, int target, double level, double base, double *once, double *again, double *regain)
{
    const settings *s = settings_of(l->r.study);
    pith_masks *masks;
    size_t n;
    move(l, true);
    pith_var *const *params = pith_net_params(l->net, &n);
    PITH_TRY(pith_masks_new(l->r.tape, &masks));
    pith_status status = PITH_OK;
    for (size_t i = 0; i < n && status == PITH_OK; i++)
        if (is_target(target, params[i]->name)) status = pith_masks_add(masks, params[i]);
    if (status == PITH_OK) status = pith_masks_cut(masks, level / 100, target == RANDOM, l->r.study->run->seed);
    pith_net_replace(l->net, pith_masks_replace, masks);
    if (status == PITH_OK) status = measure(&l->r, once);
    if (status == PITH_OK) status = train(&l->r, s->retrain_steps, l->r.study->run->card->train.batch);
    if (status == PITH_OK) {
        size_t k = 0;
        *again = l->r.accuracy[l->r.n_measured - 1];
        while (k < l->r.n_measured && l->r.accuracy[k] < base - TOLERANCE) k++;
        *regain = *once >= base - TOLERANCE ? 0 : (double)(k < l->r.n_measured ? k + 1 : s->epochs + 1);
    }
    pith_tape_step(l->r.tape, 0); /* the masks' last use ends */
    pith_net_replace(l->net, NULL, NULL);
    pith_masks_free(masks);
    return status;
}

static pith_status level_row(study *st, const char *row, const char *what, uint64_t level, double value)
{
    char name[32];
    snprintf(name, sizeof name, "%s_%llu", what, (unsigned long long)level);
    return pith_run_row(st->run, row, name, value);
}

static pith_status prune_row(layered *l, const char *row, int target, double base)
{
    study *st = l->r.study;
    const settings *s = settings_of(st);
    double holds = 0, breaks = 0;
    for (size_t i = 0; i < s->levels.n; i++) {
        double once = 0, again = 0, regain = 0;
        uint64_t level = s->levels.items[i];
        PITH_TRY(one_level(l, target, (double)level, base, &once, &again, &regain));
        if (once >= base - TOLERANCE && !breaks) holds = (double)level;
        if (once < base - TOLERANCE && !breaks) breaks = (double)level;
        for (size_t k = 0; k < s->shown.n; k++) {
            if (s->shown.items[k] != level) continue;
            PITH_TRY(level_row(st, row, "once", level, once));
            PITH_TRY(level_row(st, row, "again", level, again));
            PITH_TRY(level_row(st, row, "regain", level, regain));
        }
    }
    PITH_TRY(pith_run_row(st->run, row, "acc", base));
    PITH_TRY(pith_run_row(st->run, row, "holds", holds));
    return pith_run_row(st->run, row, "breaks", breaks ? breaks : 101);
}

/* Recurrent weights of a network of this width. */
static size_t n_weights(const settings *s, pith_cell cell, size_t width)
{
    return pith_cell_gates(cell) * width * (s->width + width + (s->layers - 1) * 2 * width);
}

static pith_status dense_row(study *st, const char *row, pith_cell cell)
{
    const settings *s = settings_of(st);
    size_t width = 1, wanted = n_weights(s, cell, s->width) * (100 - s->dense_level) / 100;
    while (n_weights(s, cell, width) < wanted) width++; /* never the smaller of the two */
    layered l;
    double accuracy = 0;
    pith_status status = open_layered(st, cell, width, &l);
    if (status == PITH_OK) status = train(&l.r, st->run->card->train.steps, st->run->card->train.batch);
    if (status == PITH_OK) status = measure(&l.r, &accuracy);
    if (status == PITH_OK) status = pith_run_row(st->run, row, "acc", accuracy);
    close_layered(st, &l);
    return status;
}

static pith_status prune_cell(study *st, pith_cell cell)
{
    const settings *s = settings_of(st);
    layered l;
    double base = 0;
    size_t n, n_values = 0;
    pith_status status = open_layered(st, cell, s->width, &l);
    if (status == PITH_OK) {
        pith_var *const *params = pith_net_params(l.net, &n);
        for (size_t i = 0; i < n; i++) n_values += params[i]->count;
        l.trained = pith_array(st->run->ctx, n_values, sizeof(float));
        l.r.n_epochs = s->epochs;
        status = l.trained ? train(&l.r, st->run->card->train.steps, st->run->card->train.batch) : PITH_E_MEMORY;
    }
    if (status == PITH_OK) status = measure(&l.r, &base);
    if (status == PITH_OK) l.r.accuracy = pith_calloc(st->run->ctx, s->epochs, sizeof(double));
    if (status == PITH_OK && !l.r.accuracy) status = PITH_E_MEMORY;
    if (status == PITH_OK) move(&l, false);
    for (size_t i = 0; i < s->targets.n && status == PITH_OK; i++) {
        char row[48];
        int target = 0;
        while (target < N_TARGETS && strcmp(s->targets.items[i], target_names[target]) != 0) target++;
        if (target == N_TARGETS) status = pith_fail(st->run->ctx, PITH_E_ARGUMENT, "%s: '%s' in targets is not i2h, h2h, both, random or dense", st->run->card->file, s->targets.items[i]);
        if (status != PITH_OK) break;
        snprintf(row, sizeof row, "%s_%s", cell_names[cell], s->targets.items[i]);
        if (pith_run_has_part(st->run, row, NULL)) continue;
        status = target == DENSE ? dense_row(st, row, cell) : prune_row(&l, row, target, base);
        if (status == PITH_OK) status = pith_run_part_done(st->run, row, 0);
    }
    pith_free(st->run->ctx, l.r.accuracy);
    close_layered(st, &l);
    return status;
}

/* ---- networks from graphs --------------------------------------------------------------------- */

/* Nodes of a layer are the units of a recurrent layer.  The first layer sees the symbols; a later unit sees the units that
 * have an edge to it, of whichever earlier layer; nodes without outgoing edges are what the classifier sees. */
typedef struct graph_layer {
    size_t n_units, n_before;      /* units of all earlier layers */
    pith_var *w_in, *w_state, *bias;
} graph_layer;

typedef struct grown {
    reader r;
    const pith_graph *graph;
    pith_cell cell;
    graph_layer *layers;           /* [n_layers] */
    size_t *unit;                  /* [n] the nodes by layer, then number */
    pith_var *embedding, *head, *head_bias;
    pith_masks *masks;
} grown;

static pith_var *grown_forward(reader *r, const int32_t *ids, const int32_t *n_tokens, size_t n)
{
    grown *g = (grown *)r;
    size_t length = r->study->length, n_layers = g->graph->n_layers;
    pith_var *x = pith_var_transpose(pith_var_rows(g->embedding, ids, PITH_DIMS(n, length)), 0, 1), *all = NULL; /* [length, n, ..] */
    for (size_t i = 0; i < n_layers; i++) {
        const graph_layer *l = &g->layers[i];
        pith_var *y = pith_var_recurrent(g->cell, pith_var_linear(i ? all : x, pith_masks_apply(g->masks, l->w_in), l->bias), l->w_state, NULL, NULL, NULL, NULL);
        all = i ? pith_var_concat((pith_var *const[]){all, y}, 2, 2) : y;
    }
    int32_t *last = pith_op_attr(r->tape, n, sizeof *last);
    if (!all || !last) return NULL;
    for (size_t i = 0; i < n; i++) last[i] = (n_tokens[i] - 1) * (int32_t)n + (int32_t)i;
    x = pith_var_rows(pith_var_reshape(all, PITH_DIMS(length * n, g->graph->n)), last, PITH_DIMS(n));
    return pith_var_linear(x, pith_masks_apply(g->masks, g->head), g->head_bias);
}

/* As PyTorch begins: uniform, +- 1 / sqrt(units). */
static pith_var *param(grown *g, const char *name, uint64_t stream, float size, int n_dims, const size_t *dims)
{
    pith_var *p = pith_tape_param(g->r.tape, name, n_dims, dims);
    pith_rng rng = {g->r.study->run->seed, 0x67726f776eu + stream, 0};
    for (size_t i = 0; p && i < p->count; i++) p->data[i] = size * (2 * pith_rng_uniform(&rng) - 1);
    return p;
}

static pith_status build_grown(grown *g)
{
    const settings *s = settings_of(g->r.study);
    const pith_graph *graph = g->graph;
    size_t n = graph->n, gates = pith_cell_gates(g->cell), n_placed = 0;
    PITH_TRY(pith_masks_new(g->r.tape, &g->masks));
    g->embedding = param(g, "embedding", 0, 1, PITH_DIMS(N_SYMBOLS, s->width));
    for (size_t i = 0; i < graph->n_layers; i++) {
        graph_layer *l = &g->layers[i];
        l->n_before = n_placed;
        for (size_t k = 0; k < n; k++)
            if (graph->layer[k] == i) g->unit[n_placed++] = k;
        l->n_units = n_placed - l->n_before;
        size_t n_in = i ? l->n_before : s->width;
        float size = 1 / sqrtf((float)l->n_units);
        l->w_in = param(g, "in", 3 * i + 1, i ? size : 1 / sqrtf((float)s->width), PITH_DIMS(gates * l->n_units, n_in));
        l->w_state = param(g, "state", 3 * i + 2, size, PITH_DIMS(gates * l->n_units, l->n_units));
        l->bias = param(g, "bias", 3 * i + 3, size, PITH_DIMS(gates * l->n_units));
        if (!l->w_in || !l->w_state || !l->bias) return pith_tape_status(g->r.tape);
        if (i == 0) continue;
        PITH_TRY(pith_masks_add(g->masks, l->w_in));
        float *mask = pith_masks_of(g->masks, l->w_in);
        for (size_t row = 0; row < gates * l->n_units; row++) /* the same edges at each gate */
            for (size_t k = 0; k < n_in; k++) mask[row * n_in + k] = graph->edge[g->unit[l->n_before + row % l->n_units] * n + g->unit[k]];
    }
    g->head = param(g, "head", 3 * n + 1, 1 / sqrtf((float)n), PITH_DIMS(2, n));
    g->head_bias = param(g, "head_bias", 3 * n + 2, 0, PITH_DIMS(2));
    if (!g->head || !g->head_bias) return pith_tape_status(g->r.tape);
    PITH_TRY(pith_masks_add(g->masks, g->head));
    float *mask = pith_masks_of(g->masks, g->head);
    for (size_t k = 0; k < n; k++) {
        bool is_sink = true;
        for (size_t b = g->unit[k] + 1; b < n; b++) is_sink &= !graph->edge[g->unit[k] * n + b];
        mask[k] = mask[n + k] = is_sink;
    }
    return PITH_OK;
}

static pith_status train_graph(study *st, pith_cell cell, const pith_graph *graph, double *accuracy)
{
    const settings *s = settings_of(st);
    pith_ctx *ctx = st->run->ctx;
    grown g = {.r = {.study = st, .forward = grown_forward}, .graph = graph, .cell = cell};
    g.layers = pith_calloc(ctx, graph->n_layers, sizeof *g.layers);
    g.unit = pith_calloc(ctx, graph->n, sizeof *g.unit);
    pith_status status = g.layers && g.unit ? pith_tape_new(ctx, st->run->seed, &g.r.tape) : PITH_E_MEMORY;
    if (status == PITH_OK) status = build_grown(&g);
    if (status == PITH_OK) status = train(&g.r, s->graph_steps, s->graph_batch);
    if (status == PITH_OK) status = measure(&g.r, accuracy);
    pith_tape_free(g.r.tape);
    pith_masks_free(g.masks);
    pith_free(ctx, g.layers);
    pith_free(ctx, g.unit);
    return status;
}

enum { N_FEATURES = PITH_GRAPH_N_PROPERTIES };

/* Graph i of a study, the same for each cell: rings and growing ones in turn. */
static pith_status draw_graph(study *st, size_t i, pith_graph *graph)
{
    const settings *s = settings_of(st);
    pith_rng rng = {st->run->seed, 0x6772617068u, (uint64_t)i << 24};
    size_t n = s->nodes_min + pith_rng_below(&rng, (uint32_t)(s->nodes_max - s->nodes_min + 1));
    return i % 2 ? pith_graph_growing(st->run->ctx, n, n / 10, &rng, graph) : pith_graph_ring(st->run->ctx, n, n / 5, 1, &rng, graph);
}

/* Ridge regression y ~ x (standardised over the first n_fit rows); R^2 of the rows after. */
static pith_status held_out_r2(pith_ctx *ctx, const double *x, const double *y, size_t n, size_t n_fit, double *r2)
{
    enum { D = N_FEATURES };
    double mean[D] = {0}, sd[D] = {0}, a[D * D] = {0}, b[D] = {0}, y_mean = 0, error = 0, total = 0, after = 0;
    double *z = pith_array(ctx, n, D * sizeof *z);
    if (!z) return PITH_E_MEMORY;
    for (size_t i = 0; i < n_fit; i++) y_mean += y[i] / (double)n_fit;
    for (size_t k = 0; k < D; k++) {
        for (size_t i = 0; i < n_fit; i++) mean[k] += x[i * D + k] / (double)n_fit;
        for (size_t i = 0; i < n_fit; i++) sd[k] += (x[i * D + k] - mean[k]) * (x[i * D + k] - mean[k]) / (double)n_fit;
        for (size_t i = 0; i < n; i++) z[i * D + k] = sd[k] > 0 ? (x[i * D + k] - mean[k]) / sqrt(sd[k]) : 0;
    }
    for (size_t i = 0; i < n_fit; i++)
        for (size_t k = 0; k < D; k++) {
            b[k] += z[i * D + k] * (y[i] - y_mean);
            for (size_t l = 0; l < D; l++) a[k * D + l] += z[i * D + k] * z[i * D + l];
        }
    for (size_t k = 0; k < D; k++) a[k * D + k] += (double)n_fit; /* a prior as strong as the data: there are few graphs */
    pith_status status = pith_solve_definite(ctx, D, 1, a, b);
    for (size_t i = n_fit; i < n; i++) after += y[i] / (double)(n - n_fit);
    for (size_t i = n_fit; i < n; i++) {
        double guess = y_mean;
        for (size_t k = 0; k < D; k++) guess += z[i * D + k] * b[k];
        error += (y[i] - guess) * (y[i] - guess);
        total += (y[i] - after) * (y[i] - after);
    }
    *r2 = total > 0 ? 1 - error / total : 0;
    pith_free(ctx, z);
    return status;
}

static double correlation(const double *x, size_t stride, const double *y, size_t n)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) mx += x[i * stride] / (double)n, my += y[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        double a = x[i * stride] - mx, b = y[i] - my;
        xx += a * a, yy += b * b, xy += a * b;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0;
}

/* Pearson's r of each property with y, and how often a shuffled y correlates as much. */
static pith_status property_rows(study *st, const double *x, const double *y, size_t n)
{
    enum { SHUFFLES = 999 };
    double *shuffled = pith_array(st->run->ctx, n, sizeof *shuffled), r[N_FEATURES];
    size_t n_as_much[N_FEATURES] = {0};
    if (!shuffled) return PITH_E_MEMORY;
    pith_rng rng = {st->run->seed, 0x7065726du, 0};
    memcpy(shuffled, y, n * sizeof *y);
    for (size_t k = 0; k < N_FEATURES; k++) r[k] = correlation(x + k, N_FEATURES, y, n);
    for (int s = 0; s < SHUFFLES; s++) {
        for (size_t i = n; i > 1; i--) {
            size_t j = pith_rng_below(&rng, (uint32_t)i);
            double t = shuffled[i - 1];
            shuffled[i - 1] = shuffled[j];
            shuffled[j] = t;
        }
        for (size_t k = 0; k < N_FEATURES; k++) n_as_much[k] += fabs(correlation(x + k, N_FEATURES, shuffled, n)) >= fabs(r[k]);
    }
    pith_free(st->run->ctx, shuffled);
    for (size_t k = 0; k < N_FEATURES; k++) {
        char row[64];
        snprintf(row, sizeof row, "property_%s", pith_graph_property_names[k]);
        PITH_TRY(pith_run_row(st->run, row, "r", r[k]));
        PITH_TRY(pith_run_row(st->run, row, "p", (double)(n_as_much[k] + 1) / (SHUFFLES + 1)));
    }
    return PITH_OK;
}

/* What graph i's network got right, measured now or before an interruption. */
static pith_status graph_accuracy(study *st, pith_cell cell, const pith_graph *graph, size_t i, double *accuracy)
{
    char part[48];
    snprintf(part, sizeof part, "graphs_%s.%zu", cell_names[cell], i);
    if (pith_run_has_part(st->run, part, accuracy)) return PITH_OK;
    PITH_TRY(train_graph(st, cell, graph, accuracy));
    return pith_run_part_done(st->run, part, *accuracy);
}

/* x [n_cells n_graphs, N_FEATURES] and y, accuracy less its cell's mean. */
static pith_status run_graphs(study *st, const pith_cell *cells, size_t n_cells, double *x, double *y)
{
    const settings *s = settings_of(st);
    size_t n = s->n_graphs, n_fit = n - n / 4;
    for (size_t c = 0; c < n_cells; c++) {
        double *cx = x + c * n * N_FEATURES, *cy = y + c * n, mean = 0, square = 0, r2;
        for (size_t i = 0; i < n; i++) {
            pith_graph graph;
            PITH_TRY(draw_graph(st, i, &graph));
            pith_status status = pith_graph_measure(&graph, cx + i * N_FEATURES);
            if (status == PITH_OK) status = graph_accuracy(st, cells[c], &graph, i, &cy[i]);
            pith_graph_free(&graph);
            PITH_TRY(status);
            mean += cy[i] / (double)n;
        }
        PITH_TRY(held_out_r2(st->run->ctx, cx, cy, n, n_fit, &r2));
        for (size_t i = 0; i < n; i++) square += (cy[i] - mean) * (cy[i] - mean) / (double)n, cy[i] -= mean;
        char row[48];
        snprintf(row, sizeof row, "graphs_%s", cell_names[cells[c]]);
        PITH_TRY(pith_run_row(st->run, row, "acc", mean));
        PITH_TRY(pith_run_row(st->run, row, "sd", sqrt(square)));
        PITH_TRY(pith_run_row(st->run, row, "r2", r2));
    }
    return property_rows(st, x, y, n_cells * n);
}

/* ---- the run ---------------------------------------------------------------------------------- */

static pith_status run_cells(study *st, const pith_cell *cells, size_t n_cells)
{
    const settings *s = settings_of(st);
    for (size_t c = 0; c < n_cells; c++) {
        if (pith_run_has_part(st->run, cell_names[cells[c]], NULL)) continue;
        PITH_TRY(prune_cell(st, cells[c]));
        PITH_TRY(pith_run_part_done(st->run, cell_names[cells[c]], 0));
    }
    if (!s->n_graphs) return PITH_OK;
    double *x = pith_calloc(st->run->ctx, n_cells * s->n_graphs, (N_FEATURES + 1) * sizeof *x);
    if (!x) return PITH_E_MEMORY;
    pith_status status = run_graphs(st, cells, n_cells, x, x + n_cells * s->n_graphs * N_FEATURES);
    pith_free(st->run->ctx, x);
    return status;
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    study st = {.run = run};
    pith_cell cells[16];
    if (!s->cells.n || s->cells.n > PITH_COUNT(cells) || s->nodes_max < s->nodes_min || (s->n_graphs && s->n_graphs < 8))
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: 1 to %zu cells, nodes_max not below nodes_min, and no graphs or 8 and more are possible", run->card->file, PITH_COUNT(cells));
    for (size_t i = 0; i < s->cells.n; i++) {
        size_t c = 0;
        while (c < N_CELLS && strcmp(s->cells.items[i], cell_names[c]) != 0) c++;
        if (c == N_CELLS) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: '%s' in cells is not tanh, relu, gru or lstm", run->card->file, s->cells.items[i]);
        cells[i] = (pith_cell)c;
    }
    pith_status status = pith_run_data(run, &run->card->data, "train", &(pith_dataset_options){.n = s->n_strings}, &st.train);
    if (status == PITH_OK) status = pith_run_data(run, &run->card->data, "test", &(pith_dataset_options){.n = s->n_test}, &st.test);
    const pith_field *tokens = status == PITH_OK ? pith_dataset_field(st.train, "tokens") : NULL;
    if (status == PITH_OK && (!tokens || !pith_dataset_field(st.train, "length"))) status = pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has no strings with a length; reber has", st.train->name);
    if (status == PITH_OK) st.length = tokens->n_values;
    if (status == PITH_OK) status = run_cells(&st, cells, s->cells.n);
    pith_dataset_free(st.train);
    pith_dataset_free(st.test);
    return status;
}

const pith_procedure pith_procedure_sparse_rnn = {"sparse_rnn", keys, sizeof(settings), run};
