/* Write a tiny model for the program's tests: make_tiny PATH [DTYPE] [seed N] [qwen2] [spm] */
#include <stdlib.h>

#include "tiny_model.h"

int main(int argc, char **argv)
{
    pith_ctx *ctx = NULL;
    tiny_model m = tiny_model_default();
    if (argc < 2 || pith_ctx_new(NULL, &ctx) != PITH_OK) return 2;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "seed") == 0 && i + 1 < argc) {
            m.seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "qwen2") == 0) {
            snprintf(m.settings.architecture, sizeof m.settings.architecture, "qwen2");
            m.settings.rope_style = PITH_ROPE_HALVES;
            m.biases = true;
        } else if (strcmp(argv[i], "spm") == 0) {
            m.vocab = PITH_VOCAB_SPM;
        } else if (!pith_dtype_by_name(argv[i], &m.dtype)) {
            fprintf(stderr, "%s: not a type\n", argv[i]);
            return 2;
        }
    }
    pith_status status = tiny_model_write(ctx, &m, argv[1]);
    if (status != PITH_OK) fprintf(stderr, "%s\n", pith_error(ctx));
    pith_ctx_free(ctx);
    return status == PITH_OK ? 0 : 1;
}
