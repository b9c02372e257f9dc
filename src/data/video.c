/* Video files: Y4M by our own reader, everything else by FFmpeg. */
#include "data/ffmpeg.h"

struct pith_video {
    pith_ctx *ctx;
    pith_map map;
    pith_video_info info;
    bool is_y4m;
    pith_y4m y4m;
    pith_ffmpeg *ffmpeg;
};

static pith_status open_mapped(pith_video *v)
{
    v->is_y4m = pith_y4m_known(v->map.data, v->map.len);
    if (!v->is_y4m) return pith_ffmpeg_open(v->ctx, v->map.path, v->map.data, v->map.len, &v->info, &v->ffmpeg);
    PITH_TRY(pith_y4m_begin(v->ctx, v->map.path, v->map.data, v->map.len, &v->y4m));
    const pith_y4m_format *f = &v->y4m.format;
    v->info = (pith_video_info){.width = f->width, .height = f->height, .rate_num = f->rate_num, .rate_den = f->rate_den ? f->rate_den : 1, .codec = "y4m"};
    return PITH_OK;
}

pith_status pith_video_open(pith_ctx *ctx, const char *path, pith_video **video)
{
    *video = NULL;
    pith_video *v = pith_calloc(ctx, 1, sizeof *v);
    if (!v) return PITH_E_MEMORY;
    v->ctx = ctx;
    pith_status status = pith_map_open(ctx, path, &v->map);
    if (status != PITH_OK) {
        pith_free(ctx, v);
        return status;
    }
    status = open_mapped(v);
    if (status == PITH_OK) *video = v;
    else pith_video_close(v);
    return status;
}

const pith_video_info *pith_video_about(const pith_video *v) { return &v->info; }

pith_status pith_video_next(pith_video *v, uint8_t *rgb, bool *got)
{
    if (!v->is_y4m) return pith_ffmpeg_next(v->ffmpeg, rgb, got);
    const uint8_t *frame;
    PITH_TRY(pith_y4m_next(&v->y4m, &frame));
    *got = frame != NULL;
    if (!frame) return PITH_OK;
    pith_y4m_to_rgb(&v->y4m.format, frame, rgb);
    pith_map_forget(&v->map, frame, pith_y4m_frame_bytes(&v->y4m.format));
    return PITH_OK;
}

void pith_video_close(pith_video *v)
{
    if (!v) return;
    pith_ffmpeg_close(v->ffmpeg);
    pith_map_close(v->ctx, &v->map);
    pith_free(v->ctx, v);
}
