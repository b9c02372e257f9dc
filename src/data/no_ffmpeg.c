/* In place of ffmpeg.c where pith was built without FFmpeg's headers. */
#include "data/ffmpeg.h"

pith_status pith_ffmpeg_open(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_video_info *info, pith_ffmpeg **ffmpeg)
{
    (void)bytes, (void)len, (void)info, (void)ffmpeg;
    return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: not Y4M, and this pith was built without FFmpeg's headers: apt-get install libavformat-dev libavcodec-dev libswscale-dev, and build it "
                     "again; or make it Y4M: ffmpeg -i FILE -pix_fmt yuv420p FILE.y4m", what);
}

pith_status pith_ffmpeg_next(pith_ffmpeg *ffmpeg, uint8_t *rgb, bool *got)
{
    (void)ffmpeg, (void)rgb, (void)got;
    return PITH_E_INTERNAL;
}

void pith_ffmpeg_close(pith_ffmpeg *ffmpeg) { (void)ffmpeg; }
