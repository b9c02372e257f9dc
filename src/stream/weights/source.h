/* Where models come from: files as they are, or stored to the bit in a .pith. */
#ifndef PITH_SOURCE_H
#define PITH_SOURCE_H

#include "format/model_file.h"

/** pith_model_file_open that also takes a .pith with one model in it, file or folder: it is restored to a place in $TMPDIR, of which
 *  the mapped bytes alone stay until the file is closed.
 *  @param stored_bytes  of the file at `path`; (*file)->file_bytes are those of the model
 *  @return what pith_model_file_open, pith_reader_open and pith_lossless_restore do */
pith_status pith_source_open(pith_ctx *ctx, const char *path, pith_model_file **file, uint64_t *stored_bytes);

#endif
