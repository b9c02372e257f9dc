/* Several processes, when mpirun started the program. */
#ifndef PITH_PROCESSES_H
#define PITH_PROCESSES_H

#include "cli/cli.h"
#include "stream/grads/group.h"

typedef struct pith_processes {
    pith_group *group;             /* NULL: this process is alone */
    void *module;
} pith_processes;

/** Join the others: loads pith-mpi.so from beside the program or where it was installed.  Alone: nothing is loaded.
 *  @return PITH_E_UNSUPPORTED (there is no module), PITH_E_IO (MPI does not begin), PITH_E_MEMORY */
pith_status pith_processes_open(pith_cli *cli, pith_processes *p);
/** Part from them; returns status.  After a failure that the others do not know of it prints the error and ends the
 *  whole job, and does not return. */
pith_status pith_processes_close(pith_cli *cli, pith_processes *p, pith_status status);

#endif
