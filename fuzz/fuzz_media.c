/* Sound and Y4M on any bytes.  The first byte chooses: bit 0 Y4M, else sound; bit 1: the length in a WAV's head is made to fit. */
#include <math.h>

#include "data/media.h"
#include "fuzz.h"

static pith_status read_y4m(pith_ctx *ctx, const uint8_t *bytes, size_t len)
{
    pith_y4m y;
    const uint8_t *frame = bytes;
    size_t n = 0;
    pith_status status = pith_y4m_begin(ctx, "fuzz", bytes, len, &y);
    while (status == PITH_OK && frame) {
        status = pith_y4m_next(&y, &frame);
        if (status != PITH_OK || !frame) break;
        size_t pixels = y.format.width * y.format.height, frame_bytes = pith_y4m_frame_bytes(&y.format);
        require(frame > bytes && frame + frame_bytes <= bytes + len && y.frame == ++n);
        uint8_t *rgb = pixels <= 65536 ? malloc(3 * pixels) : NULL, *again = rgb ? malloc(frame_bytes) : NULL;
        if (again) {
            pith_y4m_to_rgb(&y.format, frame, rgb);
            pith_y4m_from_rgb(&y.format, rgb, again);
        }
        free(rgb);
        free(again);
    }
    return status;
}

static pith_status read_sound(pith_ctx *ctx, const uint8_t *bytes, size_t len)
{
    pith_sound s;
    pith_status status = pith_sound_read(ctx, "fuzz", bytes, len, &s);
    require((status == PITH_OK) == (s.data != NULL));
    if (status == PITH_OK) require(s.channels >= 1 && s.channels <= PITH_SOUND_MAX_CHANNELS && s.rate > 0);
    for (size_t i = 0; i < s.channels * s.samples; i++) require(isfinite(s.data[i]));
    pith_sound_free(ctx, &s);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    pith_ctx *ctx = fuzz_ctx((size_t)4 << 20 | len * 64);
    size_t held = pith_memory_used(ctx), n = len - 1;
    uint8_t *bytes = fuzz_copy(data + 1, n);
    if (data[0] & 2 && n >= 8) pith_put32(bytes + 4, (uint32_t)(n - 8));
    pith_status status = data[0] & 1 ? read_y4m(ctx, bytes, n) : read_sound(ctx, bytes, n);
    require(status == PITH_OK || pith_error(ctx)[0]);
    free(bytes);
    require(pith_memory_used(ctx) == held);
    pith_ctx_free(ctx);
    return 0;
}
