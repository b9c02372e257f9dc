/* Video through FFmpeg's libraries (5.1; https://ffmpeg.org/doxygen/5.1), loaded when a video is opened: with what they need they are a
 * hundred libraries.  Their structs are those of the headers, so the version of the headers names the files.
 *
 * The file is given to them as memory, and they may open nothing else. */
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>

#include <dlfcn.h>

#include "data/ffmpeg.h"
#include "base/library.h"

#define UTIL(X) \
    X(av_malloc) X(av_freep) X(av_strerror) X(av_frame_alloc) X(av_frame_free) X(av_frame_unref) X(av_log_set_level) X(av_dict_set) X(av_dict_free)
#define CODEC(X) \
    X(avcodec_alloc_context3) X(avcodec_free_context) X(avcodec_open2) X(avcodec_parameters_to_context) X(avcodec_send_packet) X(avcodec_receive_frame) \
    X(av_packet_alloc) X(av_packet_free) X(av_packet_unref) X(avcodec_get_name)
#define FORMAT(X) \
    X(avio_alloc_context) X(avio_context_free) X(avformat_alloc_context) X(avformat_open_input) X(avformat_close_input) X(avformat_free_context) \
    X(avformat_find_stream_info) X(av_find_best_stream) X(av_read_frame)
#define SCALE(X) X(sws_getCachedContext) X(sws_freeContext) X(sws_setColorspaceDetails) X(sws_getCoefficients) X(sws_scale)

#define LIBRARY_NAME(name, version) "lib" name ".so." AV_STRINGIFY(version)
#define PACKAGE_NAME(name, version) "lib" name AV_STRINGIFY(version)

struct pith_ffmpeg {
    pith_ctx *ctx;
    const char *what;
    struct { void *handle; UTIL(PITH_LIBRARY_MEMBER) } util;
    struct { void *handle; CODEC(PITH_LIBRARY_MEMBER) } codec;
    struct { void *handle; FORMAT(PITH_LIBRARY_MEMBER) } format;
    struct { void *handle; SCALE(PITH_LIBRARY_MEMBER) } scale;
    const uint8_t *bytes;              /* the file */
    size_t len, at;
    AVIOContext *io;
    AVFormatContext *file;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *picture;
    struct SwsContext *sws;
    int stream;
    bool flushing;                     /* the file is at its end, the decoder still holds frames */
    size_t width, height, stride, n;   /* n: frames given */
    size_t n_promised;                 /* about as many as the file's head says; 0: it does not */
    uint8_t *planes;                   /* [3, height, stride]: sws_scale may write beyond a row's width */
};

static const char *const util_names[] = {UTIL(PITH_LIBRARY_NAME) NULL}, *const codec_names[] = {CODEC(PITH_LIBRARY_NAME) NULL},
                  *const format_names[] = {FORMAT(PITH_LIBRARY_NAME) NULL}, *const scale_names[] = {SCALE(PITH_LIBRARY_NAME) NULL};

static pith_status load(pith_ffmpeg *f)
{
    const char *util = LIBRARY_NAME("avutil", LIBAVUTIL_VERSION_MAJOR);
    void *before = dlopen(util, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    PITH_TRY(pith_library_open(f->ctx, f->what, LIBRARY_NAME("avformat", LIBAVFORMAT_VERSION_MAJOR), PACKAGE_NAME("avformat", LIBAVFORMAT_VERSION_MAJOR), format_names, &f->format));
    PITH_TRY(pith_library_open(f->ctx, f->what, LIBRARY_NAME("avcodec", LIBAVCODEC_VERSION_MAJOR), PACKAGE_NAME("avcodec", LIBAVCODEC_VERSION_MAJOR), codec_names, &f->codec));
    PITH_TRY(pith_library_open(f->ctx, f->what, LIBRARY_NAME("swscale", LIBSWSCALE_VERSION_MAJOR), PACKAGE_NAME("swscale", LIBSWSCALE_VERSION_MAJOR), scale_names, &f->scale));
    PITH_TRY(pith_library_open(f->ctx, f->what, util, PACKAGE_NAME("avutil", LIBAVUTIL_VERSION_MAJOR), util_names, &f->util));
    /* It writes to standard error unless told not to.  Where it was loaded before, by us or for the caller's own use, that is decided. */
    if (before) dlclose(before);
    else f->util.av_log_set_level(AV_LOG_QUIET);
    return PITH_OK;
}

/* ---- errors ----------------------------------------------------------------------------------- */

static pith_status failed(pith_ffmpeg *f, int code, const char *doing)
{
    char why[AV_ERROR_MAX_STRING_SIZE] = "";
    if (code == AVERROR(ENOMEM)) return pith_fail(f->ctx, PITH_E_MEMORY, "%s: no memory for FFmpeg", f->what);
    f->util.av_strerror(code, why, sizeof why);
    return pith_fail(f->ctx, PITH_E_CORRUPT, "%s: frame %zu, about offset %zu: %s: %s", f->what, f->n, f->at, doing, why);
}

static pith_status no_memory(pith_ffmpeg *f) { return pith_fail(f->ctx, PITH_E_MEMORY, "%s: no memory for FFmpeg", f->what); }

/* ---- the file in memory ----------------------------------------------------------------------- */

static int read_bytes(void *user, uint8_t *dst, int n)
{
    pith_ffmpeg *f = user;
    size_t m = PITH_MIN((size_t)n, f->len - f->at);
    if (m == 0) return AVERROR_EOF;
    memcpy(dst, f->bytes + f->at, m);
    f->at += m;
    return (int)m;
}

static int64_t seek(void *user, int64_t offset, int whence)
{
    pith_ffmpeg *f = user;
    if (whence & AVSEEK_SIZE) return (int64_t)f->len;
    whence &= ~AVSEEK_FORCE;
    int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? (int64_t)f->at : (int64_t)f->len, to;
    if (__builtin_add_overflow(from, offset, &to) || to < 0 || to > (int64_t)f->len) return AVERROR(EINVAL);
    f->at = (size_t)to;
    return to;
}

/* A playlist, or a film in several files: nothing but the file itself is opened. */
static int open_nothing(AVFormatContext *s, AVIOContext **io, const char *url, int flags, AVDictionary **options)
{
    (void)s, (void)url, (void)flags, (void)options;
    *io = NULL;
    return AVERROR(EACCES);
}

/* ---- opening ---------------------------------------------------------------------------------- */

enum { IO_BUFFER = 1 << 16 };

static pith_status open_file(pith_ffmpeg *f)
{
    uint8_t *buffer = f->util.av_malloc(IO_BUFFER);
    if (buffer) f->io = f->format.avio_alloc_context(buffer, IO_BUFFER, 0, f, read_bytes, NULL, seek);
    if (!f->io) {
        f->util.av_freep(&buffer);
        return no_memory(f);
    }
    f->file = f->format.avformat_alloc_context();
    if (!f->file) return no_memory(f);
    f->file->pb = f->io;
    f->file->io_open = open_nothing;
    f->file->flags |= AVFMT_FLAG_CUSTOM_IO;
    AVDictionary *options = NULL;
    f->util.av_dict_set(&options, "protocol_whitelist", "", 0);
    int code = f->format.avformat_open_input(&f->file, "", NULL, &options);
    f->util.av_dict_free(&options);
    if (code == AVERROR_INVALIDDATA) return pith_fail(f->ctx, PITH_E_FORMAT, "%s: neither Y4M nor a video that FFmpeg knows", f->what);
    if (code < 0) return failed(f, code, "cannot be opened");
    code = f->format.avformat_find_stream_info(f->file, NULL);
    if (code < 0) return failed(f, code, "what it holds cannot be found out");
    return PITH_OK;
}

static pith_status open_decoder(pith_ffmpeg *f, pith_video_info *info)
{
    const AVCodec *codec = NULL;
    f->stream = f->format.av_find_best_stream(f->file, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
    if (f->stream == AVERROR_DECODER_NOT_FOUND) return pith_fail(f->ctx, PITH_E_UNSUPPORTED, "%s: FFmpeg has no decoder for its video", f->what);
    if (f->stream < 0) return pith_fail(f->ctx, PITH_E_FORMAT, "%s: has no video", f->what);
    const AVStream *stream = f->file->streams[f->stream];
    const AVCodecParameters *p = stream->codecpar;
    if (p->width < 1 || p->height < 1 || (size_t)p->width > PITH_VIDEO_MAX_PIXELS / (size_t)p->height)
        return pith_fail(f->ctx, PITH_E_LIMIT, "%s: frames of %d x %d pixels; 1 to %zu pixels are possible", f->what, p->width, p->height, PITH_VIDEO_MAX_PIXELS);
    f->decoder = f->codec.avcodec_alloc_context3(codec);
    if (!f->decoder) return no_memory(f);
    int code = f->codec.avcodec_parameters_to_context(f->decoder, p);
    f->decoder->thread_count = 1;
    f->decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE; /* damage is an error, not patched over */
    f->decoder->error_concealment = 0;
    f->decoder->max_pixels = (int64_t)PITH_VIDEO_MAX_PIXELS;
    if (code >= 0) code = f->codec.avcodec_open2(f->decoder, codec, NULL);
    if (code < 0) return failed(f, code, "its decoder cannot be started");
    f->packet = f->codec.av_packet_alloc();
    f->picture = f->util.av_frame_alloc();
    if (!f->packet || !f->picture) return no_memory(f);
    f->width = (size_t)p->width, f->height = (size_t)p->height;
    f->stride = PITH_ROUND_UP(f->width, PITH_ALIGN) + PITH_ALIGN;
    f->planes = pith_array(f->ctx, 3 * f->stride, f->height);
    if (!f->planes) return PITH_E_MEMORY;
    AVRational rate = stream->avg_frame_rate.num > 0 && stream->avg_frame_rate.den > 0 ? stream->avg_frame_rate : (AVRational){0, 1};
    *info = (pith_video_info){.width = f->width, .height = f->height, .rate_num = (uint32_t)rate.num, .rate_den = (uint32_t)rate.den,
                              .n_frames = stream->nb_frames > 0 ? (size_t)stream->nb_frames : 0};
    f->n_promised = info->n_frames;
    if (!f->n_promised && rate.num && f->file->duration > 0 && f->file->duration_estimation_method == AVFMT_DURATION_FROM_STREAM)
        f->n_promised = (size_t)((double)f->file->duration / AV_TIME_BASE * rate.num / rate.den);
    snprintf(info->codec, sizeof info->codec, "%s", f->codec.avcodec_get_name(p->codec_id));
    return PITH_OK;
}

pith_status pith_ffmpeg_open(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_video_info *info, pith_ffmpeg **ffmpeg)
{
    pith_ffmpeg *f = pith_calloc(ctx, 1, sizeof *f);
    if (!f) return PITH_E_MEMORY;
    *f = (pith_ffmpeg){.ctx = ctx, .what = what, .bytes = bytes, .len = len};
    pith_status status = load(f);
    if (status == PITH_OK) status = open_file(f);
    if (status == PITH_OK) status = open_decoder(f, info);
    if (status == PITH_OK) *ffmpeg = f;
    else pith_ffmpeg_close(f);
    return status;
}

void pith_ffmpeg_close(pith_ffmpeg *f)
{
    if (!f) return;
    if (f->sws) f->scale.sws_freeContext(f->sws);
    if (f->picture) f->util.av_frame_free(&f->picture);
    if (f->packet) f->codec.av_packet_free(&f->packet);
    if (f->decoder) f->codec.avcodec_free_context(&f->decoder);
    if (f->file) f->format.avformat_close_input(&f->file);
    if (f->io) {
        f->util.av_freep(&f->io->buffer);
        f->format.avio_context_free(&f->io);
    }
    pith_library_close(&f->scale);
    pith_library_close(&f->format);
    pith_library_close(&f->codec);
    pith_library_close(&f->util);
    pith_free(f->ctx, f->planes);
    pith_free(f->ctx, f);
}

/* ---- frames ----------------------------------------------------------------------------------- */

/* The next picture out of the decoder, fed as it asks for it.  *got: false at the end. */
static pith_status decode(pith_ffmpeg *f, bool *got)
{
    for (;;) {
        int code = f->codec.avcodec_receive_frame(f->decoder, f->picture);
        *got = code >= 0;
        if (code >= 0 || code == AVERROR_EOF) return PITH_OK;
        if (code != AVERROR(EAGAIN)) return failed(f, code, "cannot be decoded");
        if (f->flushing) return pith_fail(f->ctx, PITH_E_INTERNAL, "%s: frame %zu: FFmpeg asks for more after the end", f->what, f->n);
        code = f->format.av_read_frame(f->file, f->packet);
        f->flushing = code == AVERROR_EOF;
        if (code < 0 && !f->flushing) return failed(f, code, "cannot be read");
        if (!f->flushing && f->packet->flags & AV_PKT_FLAG_CORRUPT) code = AVERROR_INVALIDDATA;
        else if (f->flushing || f->packet->stream_index == f->stream) code = f->codec.avcodec_send_packet(f->decoder, f->flushing ? NULL : f->packet);
        f->codec.av_packet_unref(f->packet);
        if (code < 0) return failed(f, code, "cannot be decoded");
    }
}

/* Its picture as planes of green, blue and red, by the matrix the video names (BT.601 if none), the same on every processor. */
static pith_status convert(pith_ffmpeg *f)
{
    const AVFrame *p = f->picture;
    if (p->width != (int)f->width || p->height != (int)f->height)
        return pith_fail(f->ctx, PITH_E_CORRUPT, "%s: frame %zu is %d x %d pixels, not %zu x %zu as the first", f->what, f->n, p->width, p->height, f->width, f->height);
    if (p->decode_error_flags || p->flags & AV_FRAME_FLAG_CORRUPT) return failed(f, AVERROR_INVALIDDATA, "is damaged");
    f->sws = f->scale.sws_getCachedContext(f->sws, p->width, p->height, (enum AVPixelFormat)p->format, p->width, p->height, AV_PIX_FMT_GBRP,
                                           SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, NULL, NULL, NULL);
    if (!f->sws) return pith_fail(f->ctx, PITH_E_UNSUPPORTED, "%s: frame %zu: its pixels (FFmpeg's format %d) have no way to RGB", f->what, f->n, p->format);
    const int *matrix = f->scale.sws_getCoefficients(p->colorspace == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT : (int)p->colorspace);
    f->scale.sws_setColorspaceDetails(f->sws, matrix, p->color_range == AVCOL_RANGE_JPEG, matrix, 1, 0, 1 << 16, 1 << 16); /* pixels that are RGB already have no matrix: not an error */
    size_t plane = f->stride * f->height;
    uint8_t *dst[4] = {f->planes, f->planes + plane, f->planes + 2 * plane};
    const int strides[4] = {(int)f->stride, (int)f->stride, (int)f->stride};
    int rows = f->scale.sws_scale(f->sws, (const uint8_t *const *)p->data, p->linesize, 0, p->height, dst, strides);
    return rows == p->height ? PITH_OK : failed(f, rows < 0 ? rows : AVERROR_INVALIDDATA, "cannot be made RGB");
}

/* Most formats end anywhere without complaint, and lists of edits or a longer sound make a head promise more than there is. */
static void look_at_end(pith_ffmpeg *f)
{
    if (f->n + 2 + f->n_promised / 50 < f->n_promised)
        pith_log(f->ctx, PITH_LOG_WARN, "%s: ends after %zu frames, its head promises about %zu: is it cut off?", f->what, f->n, f->n_promised);
    f->n_promised = 0; /* said once */
}

pith_status pith_ffmpeg_next(pith_ffmpeg *f, uint8_t *rgb, bool *got)
{
    static const int red_green_blue[3] = {2, 0, 1};
    PITH_TRY(decode(f, got));
    if (!*got) {
        look_at_end(f);
        return PITH_OK;
    }
    pith_status status = convert(f);
    f->util.av_frame_unref(f->picture);
    PITH_TRY(status);
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < f->height; y++)
            memcpy(rgb + (c * f->height + y) * f->width, f->planes + ((size_t)red_green_blue[c] * f->height + y) * f->stride, f->width);
    f->n++;
    return PITH_OK;
}
