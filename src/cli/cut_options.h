/* How a size is asked for: --size, --bits or --quality, the same in compress and cut. */
#ifndef PITH_CUT_OPTIONS_H
#define PITH_CUT_OPTIONS_H

#include "cli/cli.h"
#include "recipe/compress.h"

typedef struct cut_args {
    uint64_t size;
    double bits;
    const char *quality;
} cut_args;

#define CUT_OPTIONS(args, member)                                                                                                  \
    {"size", 's', PITH_ARG_SIZE, "SIZE", offsetof(args, member.size), .help = "at most this many bytes: 60MB is 60,000,000"},         \
    {"bits", 'b', PITH_ARG_REAL, "N", offsetof(args, member.bits), .min = 0.1, .max = 64, .help = "at most N bits a weight, the whole file counted"}, \
    {"quality", 0, PITH_ARG_TEXT, "kl=X", offsetof(args, member.quality),                                                        \
     .help = "the smallest cut whose mean KL divergence to the source, as measured when it was made, is at most X nats a token"}

/** At most one of the three into `o`. */
pith_status pith_cut_options(pith_cli *cli, const cut_args *a, pith_compress_options *o);

#endif
