/* Video through FFmpeg, for src/data/video.c. */
#ifndef PITH_DATA_FFMPEG_H
#define PITH_DATA_FFMPEG_H

#include "data/media.h"

typedef struct pith_ffmpeg pith_ffmpeg;

/** bytes (which must stay) as a file; errors as pith_video_open's. */
pith_status pith_ffmpeg_open(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_video_info *info, pith_ffmpeg **ffmpeg);
/** As pith_video_next. */
pith_status pith_ffmpeg_next(pith_ffmpeg *ffmpeg, uint8_t *rgb, bool *got);
/** NULL is allowed. */
void pith_ffmpeg_close(pith_ffmpeg *ffmpeg);

#endif
