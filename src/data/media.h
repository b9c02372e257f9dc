/* Sound and video: files that data comes in, decoded whole (sound) or frame by frame (video).
 *
 * Sound goes through libsndfile, compressed video through FFmpeg's libraries, both loaded at first use; Y4M is ours.  Each
 * checks all it reads and names the place of what is wrong: a byte offset, a sample, a frame (counted from 0). */
#ifndef PITH_DATA_MEDIA_H
#define PITH_DATA_MEDIA_H

#include "base/base.h"

/* ---- sound ------------------------------------------------------------------------------------ */

#define PITH_SOUND_MAX_CHANNELS 32
#define PITH_SOUND_MAX_VALUES ((size_t)1 << 28)  /* samples of all channels together */

typedef struct pith_sound {
    float *data;                       /* [channels, samples], integers of the file divided by their range: -1..1; pith_free */
    size_t channels, samples, rate;    /* samples: of each channel; rate: samples a second */
} pith_sound;
void pith_sound_free(pith_ctx *ctx, pith_sound *sound);
/** WAV, FLAC or Ogg (Vorbis, Opus, FLAC), told by their first bytes, through libsndfile, which allocates outside pith_alloc: some
 *  hundred KiB.  A WAV whose lengths were never filled in, as a pipe leaves them, ends where the file does, with a log line.
 *  A file that ends early or fails a checksum (FLAC, Ogg have them) is an error.
 *  @return PITH_E_FORMAT (none of these), PITH_E_CORRUPT, PITH_E_NONFINITE (float WAV), PITH_E_LIMIT, PITH_E_UNSUPPORTED
 *  (libsndfile is not installed, or a codec within WAV that it does not know), PITH_E_MEMORY */
pith_status pith_sound_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_sound *sound);

/* ---- video ------------------------------------------------------------------------------------ */

#define PITH_VIDEO_MAX_PIXELS ((size_t)1 << 26)  /* of a frame */

typedef struct pith_video pith_video;

typedef struct pith_video_info {
    size_t width, height;              /* of every frame, in pixels as they are stored: no rotation, no aspect applied */
    uint32_t rate_num, rate_den;       /* frames a second; 0/1: not known */
    size_t n_frames;                   /* as the file says; 0: it does not */
    char codec[32];                    /* "y4m", or as FFmpeg calls it */
} pith_video_info;

/** Open Y4M, or through FFmpeg whatever else it can decode.  The file alone is read: a list that refers to other files or to the network is
 *  refused.  FFmpeg allocates outside pith_alloc: its decoder's frames.
 *  @return PITH_E_FORMAT, PITH_E_CORRUPT, PITH_E_LIMIT, PITH_E_UNSUPPORTED (FFmpeg is not installed: the sentence says what
 *  to install), PITH_E_IO, PITH_E_MEMORY */
pith_status pith_video_open(pith_ctx *ctx, const char *path, pith_video **video);
const pith_video_info *pith_video_about(const pith_video *video);
/** The next frame, in the order of display: rgb u8 [3, height, width].  *got: false at the end; a warning where the file's
 *  head promised more, for most formats do not tell an early end.
 *  @return PITH_E_CORRUPT with the number of the frame: damaged (also where the decoder patched it over and says so), cut
 *  off, of another size; PITH_E_MEMORY */
pith_status pith_video_next(pith_video *video, uint8_t *rgb, bool *got);
/** NULL is allowed. */
void pith_video_close(pith_video *video);

/* ---- Y4M -------------------------------------------------------------------------------------- */

/* YUV4MPEG2, the uncompressed format of mjpegtools (its manual page yuv4mpeg(5)): 8 bits a sample. */
typedef enum pith_y4m_sampling {
    PITH_Y4M_420,                      /* C420, C420jpeg: chroma in the middle of 2 x 2 pixels */
    PITH_Y4M_420_LEFT,                 /* C420mpeg2: between two rows, at the left of two pixels */
    PITH_Y4M_422,                      /* C422: at the left of two pixels */
    PITH_Y4M_444,
    PITH_Y4M_MONO,
} pith_y4m_sampling;

typedef struct pith_y4m_format {
    size_t width, height;
    uint32_t rate_num, rate_den;       /* frames a second; 0/1 or 0/0: not known */
    pith_y4m_sampling sampling;
    bool full_range;                   /* XCOLORRANGE=FULL: luma 0..255, else 16..235 */
} pith_y4m_format;

/* A file in memory (or mapped), frame by frame. */
typedef struct pith_y4m {
    pith_ctx *ctx;
    const char *what;
    const uint8_t *bytes;
    size_t len, at, frame;             /* frame: how many were read */
    pith_y4m_format format;
} pith_y4m;
/** Whether it is Y4M by its first bytes; what is wrong with the rest pith_y4m_begin says. */
bool pith_y4m_known(const uint8_t *bytes, size_t len);
/** Read the head.  @return PITH_E_FORMAT (not Y4M), PITH_E_CORRUPT with the offset, PITH_E_UNSUPPORTED (a sampling or depth that is not above),
 *  PITH_E_LIMIT */
pith_status pith_y4m_begin(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_y4m *y4m);
/** *frame: the planes Y, Cb, Cr one after the other, in `bytes`; NULL at the end.  @return PITH_E_CORRUPT: cut off */
pith_status pith_y4m_next(pith_y4m *y4m, const uint8_t **frame);
/** Width and height of plane 0..2; 0 x 0: there is none. */
void pith_y4m_plane(const pith_y4m_format *format, int plane, size_t *width, size_t *height);
/** Bytes of a frame.  Of a format that was read, or whose sides were checked. */
size_t pith_y4m_frame_bytes(const pith_y4m_format *format);
/** Planes to rgb [3, height, width] and back, by ITU-R BT.601 in integers; chroma is interpolated between its places, and is the mean of
 *  what it stands for. */
void pith_y4m_to_rgb(const pith_y4m_format *format, const uint8_t *frame, uint8_t *rgb);
void pith_y4m_from_rgb(const pith_y4m_format *format, const uint8_t *rgb, uint8_t *frame);

/* Writing: whole or not at all (pith_out). */
typedef struct pith_y4m_writer {
    pith_ctx *ctx;
    pith_out *out;
    pith_y4m_format format;
    uint8_t *frame;
} pith_y4m_writer;
/** "-" is standard output.  @return PITH_E_LIMIT (sides of 0, or too many pixels), PITH_E_IO, PITH_E_MEMORY */
pith_status pith_y4m_write_begin(pith_ctx *ctx, const char *path, const pith_y4m_format *format, pith_y4m_writer *writer);
pith_status pith_y4m_write(pith_y4m_writer *writer, const uint8_t *rgb);
/** keep: the file appears; else nothing is left of it.  Once after a begin that succeeded. */
pith_status pith_y4m_write_end(pith_y4m_writer *writer, bool keep);

#endif
