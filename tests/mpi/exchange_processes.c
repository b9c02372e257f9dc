/* Workers as the processes that mpirun started, or simulated: what test_processes.py compares.
 *
 * usage: exchange_processes dense|top_k|random_k|qsgd|sign|power|reduce WORKERS
 *
 * The first process prints "hash <of the parameters> bytes <of sums, of a worker's messages, of all messages>".  reduce: the
 * gradients are summed in small buckets while the backward pass goes on. */
#include <stdlib.h>

#include "mpi/transport.h"
#include "stream/exchange_case.h"

static const struct {
    const char *name;
    pith_compressor compressor;
} ways[] = {{"dense", {PITH_COMPRESS_DENSE, 0}}, {"top_k", {PITH_COMPRESS_TOP_K, 0.1}}, {"random_k", {PITH_COMPRESS_RANDOM_K, 0.1}},
            {"qsgd", {PITH_COMPRESS_QSGD, 4}}, {"sign", {PITH_COMPRESS_SIGN, 0}}, {"power", {PITH_COMPRESS_POWER, 3}}};

extern pith_mpi_open_fn pith_mpi_open;
extern pith_mpi_close_fn pith_mpi_close;

static pith_status run(pith_ctx *ctx, pith_group *group, const char *way, bool many, case_result *r)
{
    if (!strcmp(way, "reduce")) return many ? case_reduce(ctx, group, r) : case_reduce_here(ctx, pith_group_size(group), r);
    for (size_t i = 0; i < PITH_COUNT(ways); i++)
        if (!strcmp(way, ways[i].name)) return case_exchange(ctx, group, ways[i].compressor, r);
    return pith_fail(ctx, PITH_E_ARGUMENT, "no way is called %s", way);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    pith_ctx *ctx;
    pith_transport transport;
    pith_group *group = NULL;
    case_result r;
    char text[512] = "";
    bool many = getenv("OMPI_COMM_WORLD_SIZE") != NULL;
    if (pith_ctx_new(&(pith_options){.n_threads = 1, .log_level = PITH_LOG_ERROR}, &ctx) != PITH_OK) return 1;
    pith_status status = PITH_OK;
    if (many) status = pith_mpi_open(&transport, text, sizeof text) ? pith_group_over(ctx, &transport, &group) : PITH_E_IO;
    else status = pith_group_new(ctx, (size_t)atol(argv[2]), &group);
    if (status == PITH_OK) status = run(ctx, group, argv[1], many, &r);
    if (status != PITH_OK) fprintf(stderr, "%s%s\n", text, pith_error(ctx));
    else if (pith_group_leads(group))
        printf("hash %016llx bytes %llu %llu %llu\n", (unsigned long long)r.hash, (unsigned long long)r.traffic.sum_bytes, (unsigned long long)r.traffic.gather_bytes, (unsigned long long)r.traffic.gather_bytes_all);
    pith_group_free(group);
    pith_ctx_free(ctx);
    fflush(stdout);
    if (many) pith_mpi_close(status != PITH_OK);
    return status != PITH_OK;
}
