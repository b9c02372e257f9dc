/* What workers under mpirun take for a step of compressed gradients: bench/links's side of pith.
 *
 * usage: mpirun -n N bench-exchange ROWS COLS STEPS BYTES_PER_S LATENCY_S
 *
 * The first process prints a line of JSON for each compressor: the fastest step in ms, bytes that a worker sends in one, and
 * what the model of links adds to a step at that rate and latency, in ms. */
#include <math.h>
#include <stdlib.h>

#include "mpi/transport.h"
#include "stream/grads/channel.h"

static const struct {
    const char *name;
    pith_compressor compressor;
} ways[] = {{"dense", {PITH_COMPRESS_DENSE, 0}}, {"qsgd 4", {PITH_COMPRESS_QSGD, 4}}, {"sign", {PITH_COMPRESS_SIGN, 0}},
            {"power 4", {PITH_COMPRESS_POWER, 4}}, {"top-k 1%", {PITH_COMPRESS_TOP_K, 0.01}}};

extern pith_mpi_open_fn pith_mpi_open;
extern pith_mpi_close_fn pith_mpi_close;

typedef struct bench {
    pith_ctx *ctx;
    pith_group *group;
    size_t rows, cols, n_steps;
    pith_link link;
    float *g, *mean;               /* [rows, cols] */
} bench;

static pith_status measure(bench *b, size_t way)
{
    pith_channel *channel;
    PITH_TRY(pith_channel_new(b->group, b->rows, b->cols, &(pith_channel_options){.compressor = ways[way].compressor, .feedback = PITH_FEEDBACK_EF}, &channel));
    const float *g[] = {b->g};
    pith_status status = pith_channel_step(channel, 0, g, b->mean); /* buffers are made */
    double best = HUGE_VAL;
    pith_group_forget_traffic(b->group);
    for (size_t i = 0; i < b->n_steps && status == PITH_OK; i++) {
        double start = pith_now_s();
        status = pith_channel_step(channel, i + 1, g, b->mean);
        best = PITH_MIN(best, 1000 * (pith_now_s() - start));
    }
    if (status == PITH_OK && pith_group_leads(b->group)) {
        const pith_traffic *t = pith_group_traffic(b->group);
        double n = (double)b->n_steps, size = (double)pith_group_size(b->group);
        printf("{\"way\": \"%s\", \"ms\": %.4f, \"bytes\": %.0f, \"link_ms\": %.4f}\n", ways[way].name, best, ((double)t->sum_bytes + (double)t->gather_bytes_all / size) / n,
               1000 * pith_link_seconds(&b->link, pith_group_size(b->group), t) / n);
    }
    pith_channel_free(channel);
    return status;
}

static pith_status run(bench *b)
{
    b->g = pith_array(b->ctx, b->rows, b->cols * sizeof *b->g);
    b->mean = pith_array(b->ctx, b->rows, b->cols * sizeof *b->mean);
    if (!b->g || !b->mean) return PITH_E_MEMORY;
    pith_rng rng = {1, pith_group_first(b->group), 0};
    for (size_t i = 0; i < b->rows * b->cols; i++) b->g[i] = pith_rng_normal(&rng);
    for (size_t i = 0; i < PITH_COUNT(ways); i++) PITH_TRY(measure(b, i));
    return PITH_OK;
}

int main(int argc, char **argv)
{
    bench b = {0};
    pith_transport transport;
    char text[512] = "";
    if (argc != 6) {
        fprintf(stderr, "usage: %s ROWS COLS STEPS BYTES_PER_S LATENCY_S\n", argv[0]);
        return 2;
    }
    b.rows = (size_t)atol(argv[1]);
    b.cols = (size_t)atol(argv[2]);
    b.n_steps = (size_t)atol(argv[3]);
    b.link = (pith_link){atof(argv[5]), atof(argv[4])};
    if (b.rows < 1 || b.cols < 1 || b.n_steps < 1 || !(b.link.bytes_per_s > 0) || !(b.link.latency_s >= 0)) return 2;
    if (pith_ctx_new(&(pith_options){.n_threads = 1}, &b.ctx) != PITH_OK) return 1;
    pith_status status = pith_mpi_open(&transport, text, sizeof text) ? pith_group_over(b.ctx, &transport, &b.group) : PITH_E_IO;
    if (status == PITH_OK) status = run(&b);
    if (status != PITH_OK) fprintf(stderr, "%s: %s%s\n", argv[0], text, pith_error(b.ctx));
    pith_group_free(b.group);
    pith_free(b.ctx, b.g);
    pith_free(b.ctx, b.mean);
    pith_ctx_free(b.ctx);
    fflush(stdout);
    pith_mpi_close(status != PITH_OK);
    return status != PITH_OK;
}
