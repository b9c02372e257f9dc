/* Sound files, by libsndfile out of memory.  What libsndfile would pass over is checked here: chunks of a WAV that reach
 * beyond its end, damaged pages of an Ogg, samples that are missing at the end.  Of a WAV it sees the chunks that make
 * the sound and no other: in names and comments it can loop for minutes (libsndfile's issue 1118). */
#include <math.h>
#include <sndfile.h>

#include "base/library.h"
#include "data/media.h"

#define FUNCTIONS(X) X(sf_open_virtual) X(sf_close) X(sf_error) X(sf_strerror) X(sf_readf_float)

typedef struct library {
    void *handle;
    FUNCTIONS(PITH_LIBRARY_MEMBER)
} library;
static const char *const names[] = {FUNCTIONS(PITH_LIBRARY_NAME) NULL};

void pith_sound_free(pith_ctx *ctx, pith_sound *sound)
{
    pith_free(ctx, sound->data);
    *sound = (pith_sound){0};
}

/* ---- a file in memory, as libsndfile wants it ------------------------------------------------- */

/* A head made here, if any, then `body`, which stands at `from` in the file. */
typedef struct memory {
    uint8_t *head;
    const uint8_t *body;
    sf_count_t head_len, len, at; /* len, at: of both together */
    size_t from;
} memory;

static sf_count_t memory_len(void *user) { return ((memory *)user)->len; }

static sf_count_t memory_seek(sf_count_t offset, int whence, void *user)
{
    memory *m = user;
    sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? m->at : m->len, to;
    if (__builtin_add_overflow(from, offset, &to) || to < 0 || to > m->len) return -1;
    return m->at = to;
}

static sf_count_t memory_read(void *dst, sf_count_t n, void *user)
{
    memory *m = user;
    sf_count_t got = 0;
    while (got < n && m->at < m->len) {
        bool in_head = m->at < m->head_len;
        const uint8_t *from = in_head ? m->head + m->at : m->body + (m->at - m->head_len);
        sf_count_t part = PITH_MIN(n - got, (in_head ? m->head_len : m->len) - m->at);
        memcpy((uint8_t *)dst + got, from, (size_t)part);
        m->at += part;
        got += part;
    }
    return got;
}

static sf_count_t memory_tell(void *user) { return ((memory *)user)->at; }

/* ---- WAV's chunks ----------------------------------------------------------------------------- */

enum { RIFF_HEAD = 12, CHUNK_HEAD = 8 };
#define UNKNOWN 0xFFFFFFFFu /* a length that its writer, into a pipe, could not go back to fill in; some leave 0 */

typedef struct chunk {
    const uint8_t *bytes; /* NULL: none */
    size_t size;
} chunk;

/* What the sound of a WAV is made of: how samples are coded, how many there are (a compressed one says it), they themselves. */
typedef struct wav {
    chunk fmt, fact, data;
    size_t frames; /* what the data chunk has; SIZE_MAX: as many as there are */
} wav;

/* "RIFF" size "WAVE", then chunks: name, size, that many bytes, one more where they are odd.  (Multimedia Programming Interface and
 * Data Specifications 1.0, 1991.) */
static pith_status find_chunks(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, wav *w)
{
    enum { FMT = 16, PCM = 1, FLOAT = 3, EXTENSIBLE = 0xFFFE };
    uint32_t whole = pith_le32(bytes + 4);
    bool piped = whole == UNKNOWN || whole == 0;
    if (!piped && whole > len - CHUNK_HEAD)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset 4: cut off: the head says %zu bytes in all, there are %zu", what, (size_t)whole + CHUNK_HEAD, len);
    size_t end = piped ? len : (size_t)whole + CHUNK_HEAD, block = 0;
    *w = (wav){.frames = SIZE_MAX};
    for (size_t at = RIFF_HEAD; at < end;) {
        if (end - at < CHUNK_HEAD) {
            if (end - at == 1 && bytes[at] == 0) break; /* some count a last chunk's padding, some do not */
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: %zu bytes after the last chunk", what, at, end - at);
        }
        const uint8_t *name = bytes + at;
        size_t size = pith_le32(name + 4), there = end - at - CHUNK_HEAD;
        bool is_data = memcmp(name, "data", 4) == 0;
        if (is_data && piped && (size == UNKNOWN || size == 0)) size = there;
        if (size > there) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: chunk \"%.4s\" of %zu bytes; %zu are left", what, at, (const char *)name, size, there);
        chunk here = {name + CHUNK_HEAD, size};
        if (memcmp(name, "fmt ", 4) == 0) {
            if (size < FMT) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: a format of %zu bytes, not %d or more", what, at, size, FMT);
            uint16_t codec = pith_le16(here.bytes);
            block = codec == PCM || codec == FLOAT || codec == EXTENSIBLE ? pith_le16(here.bytes + 12) : 0;
            w->fmt = here;
        }
        if (memcmp(name, "fact", 4) == 0) w->fact = here;
        if (is_data) {
            if (!w->fmt.bytes) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: samples without a chunk \"fmt \" before them", what, at);
            if (block && size % block) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: %zu bytes are no whole number of frames of %zu", what, at, size, block);
            if (block) w->frames = size / block;
            if (piped) pith_log(ctx, PITH_LOG_WARN, "%s: its lengths were never filled in; read to the end of the file", what);
            w->data = here;
            return PITH_OK;
        }
        at += CHUNK_HEAD + size + size % 2;
    }
    return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: ends without a chunk \"data\"", what, end);
}

static uint8_t *put_name(uint8_t *p, const char *name, size_t size)
{
    memcpy(p, name, 4);
    pith_put32(p + 4, (uint32_t)size);
    return p + CHUNK_HEAD;
}

static uint8_t *put_chunk(uint8_t *p, const char *name, chunk c)
{
    if (!c.bytes) return p;
    p = put_name(p, name, c.size);
    memcpy(p, c.bytes, c.size);
    return p + c.size + c.size % 2;
}

/* A file of these three chunks alone.  m->head: the caller's, even after an error. */
static pith_status open_wav(pith_ctx *ctx, const char *what, const uint8_t *bytes, const wav *w, memory *m)
{
    size_t len = RIFF_HEAD + 3 * CHUNK_HEAD + w->fmt.size + w->fmt.size % 2 + w->fact.size + w->fact.size % 2;
    if (w->data.size > UINT32_MAX - len) return pith_fail(ctx, PITH_E_LIMIT, "%s: %zu bytes of samples; a WAV of 4 GB or less can be read", what, w->data.size);
    m->head = pith_calloc(ctx, len, 1);
    if (!m->head) return PITH_E_MEMORY;
    uint8_t *p = put_chunk(put_chunk(m->head + RIFF_HEAD, "fmt ", w->fmt), "fact", w->fact);
    p = put_name(p, "data", w->data.size);
    m->head_len = p - m->head;
    m->body = w->data.bytes;
    m->from = (size_t)(w->data.bytes - bytes);
    m->len = m->head_len + (sf_count_t)w->data.size;
    memcpy(put_name(m->head, "RIFF", (size_t)m->len - CHUNK_HEAD), "WAVE", 4);
    return PITH_OK;
}

/* ---- Ogg's pages ------------------------------------------------------------------------------ */

/* CRC-32 of polynomial 0x04c11db7, not reflected, by bytes. */
static void fill_crc_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i << 24;
        for (int bit = 0; bit < 8; bit++) table[i] = table[i] << 1 ^ (table[i] >> 31 ? 0x04c11db7u : 0);
    }
}

/* From 0, with the page's own field (22..25) taken as 0. */
static uint32_t page_checksum(const uint32_t table[256], const uint8_t *page, size_t len)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < len; i++) crc = crc << 8 ^ table[crc >> 24 ^ (i >= 22 && i < 26 ? 0 : page[i])];
    return crc;
}

/* Every page is whole, and the last one is marked as the last (RFC 3533): libsndfile looks for the next good page and goes on. */
static pith_status check_ogg(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len)
{
    enum { HEAD = 27, LAST = 4 };
    bool last = false;
    uint32_t table[256];
    fill_crc_table(table);
    for (size_t at = 0, n = 0; at < len; at += n) {
        const uint8_t *page = bytes + at;
        size_t left = len - at;
        if (left >= 4 && memcmp(page, "OggS", 4) != 0) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: no page of Ogg begins here", what, at);
        n = left < HEAD ? HEAD : HEAD + page[26];
        for (size_t i = HEAD, end = n; left >= end && i < end; i++) n += page[i];
        if (n > left) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: cut off: a page of %zu bytes or more, %zu are left", what, at, n, left);
        if (page_checksum(table, page, n) != pith_le32(page + 22)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: a page is damaged, its checksum differs", what, at);
        last = page[5] & LAST;
    }
    return last ? PITH_OK : pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: cut off: its last page is not marked as the last", what, len);
}

/* ---- decoding --------------------------------------------------------------------------------- */

/* All samples as the file has them, [samples, channels]. */
static pith_status decode(pith_ctx *ctx, const library *l, const char *what, SNDFILE *file, size_t channels, float **values, size_t *samples)
{
    size_t cap = 0, n = 0, most = PITH_SOUND_MAX_VALUES / channels;
    *values = NULL;
    for (;;) {
        if (n == cap) {
            if (cap >= most) return pith_fail(ctx, PITH_E_LIMIT, "%s: more than %zu samples of %zu channels", what, most, channels);
            cap = PITH_MIN(cap ? 2 * cap : 4096, most);
            float *grown = pith_resize(ctx, *values, cap * channels * sizeof **values);
            if (!grown) return PITH_E_MEMORY;
            *values = grown;
        }
        sf_count_t got = l->sf_readf_float(file, *values + n * channels, (sf_count_t)(cap - n));
        if (l->sf_error(file)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: sample %zu: %s", what, n, l->sf_strerror(file));
        if (got <= 0) break;
        n += (size_t)got;
    }
    *samples = n;
    return PITH_OK;
}

static pith_status split_channels(pith_ctx *ctx, const char *what, const float *values, pith_sound *sound)
{
    sound->data = pith_array(ctx, sound->channels * sound->samples, sizeof *sound->data);
    if (!sound->data) return PITH_E_MEMORY;
    for (size_t i = 0; i < sound->samples; i++)
        for (size_t c = 0; c < sound->channels; c++) {
            float v = values[i * sound->channels + c];
            if (!isfinite(v)) return pith_fail(ctx, PITH_E_NONFINITE, "%s: sample %zu of channel %zu is not a finite number", what, i, c);
            sound->data[c * sound->samples + i] = v;
        }
    return PITH_OK;
}

static pith_status read_opened(pith_ctx *ctx, const library *l, const char *what, SNDFILE *file, const SF_INFO *info, size_t frames, pith_sound *sound)
{
    if (info->channels < 1 || info->channels > PITH_SOUND_MAX_CHANNELS || info->samplerate < 1)
        return pith_fail(ctx, PITH_E_LIMIT, "%s: %d channels of %d samples a second; 1 to %d channels can be read", what, info->channels, info->samplerate, PITH_SOUND_MAX_CHANNELS);
    *sound = (pith_sound){.channels = (size_t)info->channels, .rate = (size_t)info->samplerate};
    float *values;
    pith_status status = decode(ctx, l, what, file, sound->channels, &values, &sound->samples);
    if (status == PITH_OK && frames == SIZE_MAX && info->frames > 0 && info->frames < SF_COUNT_MAX) frames = (size_t)info->frames;
    if (status == PITH_OK && frames != SIZE_MAX && sound->samples != frames)
        status = pith_fail(ctx, PITH_E_CORRUPT, "%s: sample %zu: the sound ends here, its head says %zu samples", what, sound->samples, frames);
    if (status == PITH_OK) status = split_channels(ctx, what, values, sound);
    pith_free(ctx, values);
    return status;
}

/* frames: how many its head says there are; SIZE_MAX: libsndfile knows. */
static pith_status read_memory(pith_ctx *ctx, const library *l, const char *what, memory *m, size_t frames, pith_sound *sound)
{
    SF_VIRTUAL_IO io = {.get_filelen = memory_len, .seek = memory_seek, .read = memory_read, .tell = memory_tell};
    SF_INFO info = {0};
    SNDFILE *file = l->sf_open_virtual(&io, SFM_READ, &info, m);
    if (!file) {
        const char *why = l->sf_strerror(NULL); /* the library's own, shared by all threads: a hint, no more */
        size_t in_body = m->at > m->head_len ? (size_t)(m->at - m->head_len) : 0;
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: %s", what, m->from + in_body, why);
    }
    pith_status status = read_opened(ctx, l, what, file, &info, frames, sound);
    l->sf_close(file);
    return status;
}

pith_status pith_sound_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_sound *sound)
{
    *sound = (pith_sound){0};
    bool riff = len >= RIFF_HEAD && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WAVE", 4) == 0;
    bool flac = len >= 4 && memcmp(bytes, "fLaC", 4) == 0, ogg = len >= 4 && memcmp(bytes, "OggS", 4) == 0;
    if (!riff && !flac && !ogg) return pith_fail(ctx, PITH_E_FORMAT, "%s: offset 0: no WAV, FLAC or Ogg file", what);
    wav w = {.frames = SIZE_MAX};
    if (riff) PITH_TRY(find_chunks(ctx, what, bytes, len, &w));
    if (ogg) PITH_TRY(check_ogg(ctx, what, bytes, len));
    library l;
    PITH_TRY(pith_library_open(ctx, what, "libsndfile.so.1", "libsndfile1", names, &l));
    memory m = {.body = bytes, .len = (sf_count_t)len};
    pith_status status = riff ? open_wav(ctx, what, bytes, &w, &m) : PITH_OK;
    if (status == PITH_OK) status = read_memory(ctx, &l, what, &m, w.frames, sound);
    pith_free(ctx, m.head);
    pith_library_close(&l);
    if (status != PITH_OK) pith_sound_free(ctx, sound);
    return status;
}
