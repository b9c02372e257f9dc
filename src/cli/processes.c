/* Several processes: the module that speaks MPI. */
#include "cli/processes.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "mpi/transport.h"

#define MODULE "pith-mpi.so"

/* POSIX lets an object pointer of dlsym be a function's; C does not say so. */
static void *beside_program(void)
{
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - sizeof MODULE);
    while (len > 0 && path[len - 1] != '/') len--;
    if (len <= 0) return NULL;
    strcpy(path + len, MODULE);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static pith_status join(pith_cli *cli, pith_processes *p)
{
    union {
        void *symbol;
        pith_mpi_open_fn *open;
    } f = {dlsym(p->module, PITH_MPI_OPEN)};
    char text[512];
    pith_transport transport;
    if (!f.symbol) return pith_fail(cli->ctx, PITH_E_UNSUPPORTED, MODULE " is of another version of pith; install both anew");
    if (!f.open(&transport, text, sizeof text)) return pith_fail(cli->ctx, PITH_E_IO, "MPI does not begin: %s", text);
    pith_status status = pith_group_over(cli->ctx, &transport, &p->group);
    return status == PITH_OK ? status : pith_processes_close(cli, p, status);
}

pith_status pith_processes_open(pith_cli *cli, pith_processes *p)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE"); /* set by mpirun: Open MPI's manual, mpirun(1) */
    *p = (pith_processes){0};
    if (!size || atoi(size) < 2) return PITH_OK;
    p->module = beside_program();
    if (!p->module) p->module = dlopen(PITH_MODULE_FOLDER "/" MODULE, RTLD_NOW | RTLD_LOCAL);
    if (!p->module) return pith_fail(cli->ctx, PITH_E_UNSUPPORTED, "mpirun started %s processes, but " MODULE " cannot be loaded (%s); build pith where Open MPI's libopenmpi-dev is installed", size, dlerror());
    return join(cli, p);
}

pith_status pith_processes_close(pith_cli *cli, pith_processes *p, pith_status status)
{
    if (!p->module) return status;
    union {
        void *symbol;
        pith_mpi_close_fn *close;
    } f = {dlsym(p->module, PITH_MPI_CLOSE)};
    bool failed = status != PITH_OK && status != PITH_E_CANCELLED; /* of a wish to stop all know */
    if (failed) {
        char text[1200];
        if (p->group) snprintf(text, sizeof text, "worker %zu of %zu: %s", pith_group_first(p->group), pith_group_size(p->group), pith_error(cli->ctx));
        else snprintf(text, sizeof text, "%s", pith_error(cli->ctx));
        pith_terminal_log(cli->terminal, PITH_LOG_ERROR, text);
        pith_out_discard_all();
    }
    pith_group_free(p->group);
    p->group = NULL;
    if (f.symbol) f.close(failed);
    return status;
}
