/* What the module pith-mpi.so exports.  It uses nothing of libpith, so that only who starts pith by mpirun needs Open MPI. */
#ifndef PITH_MPI_TRANSPORT_H
#define PITH_MPI_TRANSPORT_H

#include "stream/grads/group.h"

#define PITH_MPI_OPEN "pith_mpi_open"
#define PITH_MPI_CLOSE "pith_mpi_close"
/** Begin MPI.  false: no MPI, and `text` [size] says why. */
typedef bool pith_mpi_open_fn(pith_transport *transport, char *text, size_t size);
/** End it, once.  failed: the whole job ends, whatever the others do. */
typedef void pith_mpi_close_fn(bool failed);

#endif
