/* config.json of a model folder, any bytes: settings that pass the check can be worked with. */
#include <math.h>

#include "format/safetensors.h"
#include "format/settings.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    pith_ctx *ctx = fuzz_ctx((size_t)4 << 20 | len * 64);
    pith_model_file *file;
    require(pith_model_file_new(ctx, "fuzz", &file) == PITH_OK);
    pith_status status = pith_hf_config_parse(ctx, "config.json", (const char *)data, len, file);
    require(status == PITH_OK || pith_error(ctx)[0]);
    require(status != PITH_E_MEMORY);
    const pith_settings *s = &file->settings;
    require(memchr(s->architecture, 0, sizeof s->architecture) != NULL);
    if (status == PITH_OK && pith_settings_known(s) && pith_settings_check(ctx, "fuzz", s, 1000) == PITH_OK) {
        float factors[8192];
        require(s->n_heads % s->n_kv_heads == 0 && s->rope_dims <= s->head_dim && s->rope_dims / 2 <= PITH_COUNT(factors));
        if (s->rope_scaling == PITH_ROPE_LLAMA3) {
            pith_llama3_factors(s, factors);
            for (size_t i = 0; i < s->rope_dims / 2; i++) require(isfinite(factors[i]) && factors[i] > 0);
        }
    }
    pith_model_file_close(ctx, file);
    pith_ctx_free(ctx);
    return 0;
}
