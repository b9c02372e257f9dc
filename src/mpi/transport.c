/* Processes over MPI (standard 3.1), as a module that the program loads when mpirun started it.  MPI has global state by
 * its nature; that is here, and nowhere else. */
#include <mpi.h>
#include <stdlib.h>

#include "mpi/transport.h"

__attribute__((visibility("default"))) pith_mpi_open_fn pith_mpi_open;
__attribute__((visibility("default"))) pith_mpi_close_fn pith_mpi_close;

/* Exchanges of pieces, and their sums back, are each begun in the same order by all, but not one among the other: a
 * communicator each, and MPI_COMM_WORLD for the rest. */
static MPI_Comm pieces, sums;
static char sentence[MPI_MAX_ERROR_STRING + 1];

static bool check(int code)
{
    int len;
    if (code == MPI_SUCCESS) return true;
    if (MPI_Error_string(code, sentence, &len) != MPI_SUCCESS) snprintf(sentence, sizeof sentence, "MPI error %d", code);
    return false;
}

/* A request's handle lives in memory of its own until it is done. */
static MPI_Request *new_request(void)
{
    MPI_Request *r = malloc(sizeof *r);
    if (!r) snprintf(sentence, sizeof sentence, "no memory");
    return r;
}

static bool started(int code, MPI_Request *r, void **request)
{
    *request = r;
    if (check(code)) return true;
    free(r);
    *request = NULL;
    return false;
}

static bool start_all_to_all(void *state, const float *send, float *recv, size_t count, void **request)
{
    (void)state;
    MPI_Request *r = new_request();
    return r && started(MPI_Ialltoall(send, (int)count, MPI_FLOAT, recv, (int)count, MPI_FLOAT, pieces, r), r, request);
}

static bool start_all_gather(void *state, const float *mine, float *all, size_t count, void **request)
{
    (void)state;
    MPI_Request *r = new_request();
    return r && started(MPI_Iallgather(mine, (int)count, MPI_FLOAT, all, (int)count, MPI_FLOAT, sums, r), r, request);
}

static bool finished(int code, int done, void **request)
{
    if (!check(code)) return false;
    if (!done) return true;
    free(*request);
    *request = NULL;
    return true;
}

static bool test(void *state, void **request)
{
    (void)state;
    int done = 0;
    if (!*request) return true;
    int code = MPI_Test(*request, &done, MPI_STATUS_IGNORE);
    return finished(code, done, request);
}

static bool wait(void *state, void **request)
{
    (void)state;
    return !*request || finished(MPI_Wait(*request, MPI_STATUS_IGNORE), 1, request);
}

static bool gather_bytes(void *state, const void *mine, void *all, const size_t *lens)
{
    const pith_transport *t = state;
    int *counts = malloc(2 * t->size * sizeof *counts), at = 0;
    if (!counts) {
        snprintf(sentence, sizeof sentence, "no memory");
        return false;
    }
    for (size_t i = 0; i < t->size; i++) {
        counts[i] = (int)lens[i];
        counts[t->size + i] = at;
        at += (int)lens[i];
    }
    bool ok = check(MPI_Allgatherv(mine, counts[t->rank], MPI_BYTE, all, counts, counts + t->size, MPI_BYTE, MPI_COMM_WORLD));
    free(counts);
    return ok;
}

static bool broadcast(void *state, void *data, size_t len)
{
    (void)state;
    return check(MPI_Bcast(data, (int)len, MPI_BYTE, 0, MPI_COMM_WORLD));
}

static const char *error(void *state)
{
    (void)state;
    return sentence;
}

bool pith_mpi_open(pith_transport *t, char *text, size_t size)
{
    static pith_transport self;
    int rank, n, provided;
    /* pith's own threads never call MPI */
    bool ok = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided)) && check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)) &&
              check(MPI_Comm_rank(MPI_COMM_WORLD, &rank)) && check(MPI_Comm_size(MPI_COMM_WORLD, &n)) &&
              check(MPI_Comm_dup(MPI_COMM_WORLD, &pieces)) && check(MPI_Comm_dup(MPI_COMM_WORLD, &sums));
    if (!ok) {
        snprintf(text, size, "%s", sentence);
        return false;
    }
    self = (pith_transport){.state = &self, .rank = (size_t)rank, .size = (size_t)n, .start_all_to_all = start_all_to_all, .start_all_gather = start_all_gather,
                            .test = test, .wait = wait, .gather_bytes = gather_bytes, .broadcast = broadcast, .error = error};
    *t = self;
    return true;
}

void pith_mpi_close(bool failed)
{
    if (failed) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Comm_free(&pieces);
    MPI_Comm_free(&sums);
    MPI_Finalize();
}
