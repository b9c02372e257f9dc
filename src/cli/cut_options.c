#include "cli/cut_options.h"

#include <stdlib.h>

pith_status pith_cut_options(pith_cli *cli, const cut_args *a, pith_compress_options *o)
{
    if ((a->size > 0) + (a->bits > 0) + (a->quality != NULL) > 1) return pith_cli_usage(cli, "--size, --bits and --quality exclude each other");
    o->size = a->size;
    o->bits = a->bits;
    if (!a->quality) return PITH_OK;
    char *end = NULL;
    if (strncmp(a->quality, "kl=", 3) == 0) o->kl = strtod(a->quality + 3, &end);
    if (!end || end == a->quality + 3 || *end || !(o->kl > 0 && o->kl < 100)) return pith_cli_usage(cli, "--quality %s: write kl=X, for example kl=0.05", a->quality);
    return PITH_OK;
}
